/* sd_notify(3) by hand: one datagram to the socket that $NOTIFY_SOCKET names, which is a path, or an abstract name behind '@'. */
#include "shared.h"

#include <mintfs/cleanup.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

void systemd_tell(const char *text)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t len = name ? strlen(name) : 0;

	if (len < 2 || len >= sizeof to.sun_path || (name[0] != '/' && name[0] != '@'))
		return;
	auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	memcpy(to.sun_path, name, len);
	if (name[0] == '@')
		to.sun_path[0] = '\0';
	sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}
