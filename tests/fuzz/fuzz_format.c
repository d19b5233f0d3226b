/* Any bytes as a file of each known format. The first byte of the input chooses the name. */
#include <mintfs/metadata.h>
#include <mintfs/util.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"a.pth", "a.bin", "a.safetensors", "a.npy", "a.png", "a.h5"};
	struct fault f = FAULT_INIT;

	if (!size)
		return 0;
	int fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)(size - 1))
		abort();
	int r = metadata_check_format(fd, names[data[0] % ARRAY_SIZE(names)], &f);
	if (r != 0 && (r != -EINVAL || f.error != EINVAL || !f.text[0]))
		abort();
	if (r == 0 && f.error)
		abort();
	close(fd);
	return 0;
}
