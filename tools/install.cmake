# cmake --install: the command, the links by which mount(8) and umount(8) find it, man pages, systemd examples.
# mount(8) looks for helpers in /sbin and nowhere else; for an installation without root give another folder.
set(MASSFS_MOUNT_HELPER_DIR "/sbin" CACHE PATH "Where links for mount(8) and umount(8) go")

install(TARGETS massfs RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(CODE "
  foreach(_link mount.massfs mount.fuse.massfs umount.massfs umount.fuse.massfs)
    file(MAKE_DIRECTORY \"\$ENV{DESTDIR}${MASSFS_MOUNT_HELPER_DIR}\")
    message(STATUS \"Link: \$ENV{DESTDIR}${MASSFS_MOUNT_HELPER_DIR}/\${_link}\")
    file(CREATE_LINK \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}/massfs\"
      \"\$ENV{DESTDIR}${MASSFS_MOUNT_HELPER_DIR}/\${_link}\" SYMBOLIC)
  endforeach()
")

foreach(_section 1 5 8)
  file(GLOB _pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.${_section})
  if(_pages)
    install(FILES ${_pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${_section})
  endif()
endforeach()
install(FILES
  ${PROJECT_SOURCE_DIR}/systemd/mnt-massfs.mount
  ${PROJECT_SOURCE_DIR}/systemd/mnt-massfs.automount
  ${PROJECT_SOURCE_DIR}/systemd/fstab.example
  DESTINATION ${CMAKE_INSTALL_DOCDIR}/systemd)
