# What `cmake --install` puts in place: the command, its manual, completion for bash and zsh, the systemd unit, and the helper by which
# mount(8) and /etc/fstab find it.
install(TARGETS mintfs RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

install(FILES man/mintfs.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES man/mintfs-process.5 DESTINATION ${CMAKE_INSTALL_MANDIR}/man5)
install(FILES man/mintfs-layout.7 DESTINATION ${CMAKE_INSTALL_MANDIR}/man7)
install(FILES man/mount.mintfs.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)

install(FILES completion/mintfs.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME mintfs)
install(FILES completion/_mintfs DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)

configure_file(dist/mintfs@.service.in ${CMAKE_BINARY_DIR}/mintfs@.service @ONLY)
set(MINTFS_SYSTEMD_DIR lib/systemd/system CACHE STRING "where the systemd unit goes; a relative path is below the prefix")
install(FILES ${CMAKE_BINARY_DIR}/mintfs@.service DESTINATION ${MINTFS_SYSTEMD_DIR})

# The type of a drive that is mounted is fuse.mintfs, by which mount(8) looks for another helper: for mount -o remount, and where fstab says so.
# mount(8) looks for helpers in /sbin only, which is /usr/sbin where /usr is merged. So an install for the whole system puts it there, whatever the
# prefix; one below somebody's home keeps to its prefix, and `mintfs mount` works all the same.
set(MINTFS_MOUNT_HELPER_DIR "" CACHE STRING "where the links mount.mintfs and mount.fuse.mintfs go; empty: /usr/sbin for an install below /usr, else sbin below the prefix")
install(CODE "
  set(dir \"${MINTFS_MOUNT_HELPER_DIR}\")
  if(NOT dir AND CMAKE_INSTALL_PREFIX MATCHES \"^/usr(/local)?/?$\")
    set(dir /usr/sbin)
  elseif(NOT dir)
    set(dir \"\${CMAKE_INSTALL_PREFIX}/sbin\")
  endif()
  file(MAKE_DIRECTORY \"\$ENV{DESTDIR}\${dir}\")
  foreach(name mount.mintfs mount.fuse.mintfs)
    set(link \"\$ENV{DESTDIR}\${dir}/\${name}\")
    file(CREATE_LINK \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/mintfs\" \"\${link}\" SYMBOLIC)
    message(STATUS \"Installing: \${link}\")
  endforeach()
")
