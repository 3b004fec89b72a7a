extern int massfs_room_is_empty;
int massfs_room_is_empty;
