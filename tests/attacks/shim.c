/* Faults of the disk under the audit journal, by LD_PRELOAD: only files that are called journal*.jsonl.
 *
 * The first byte of the file that MK8S_ATTACK_FAULT names says which: 'w' EIO on write, 'p' a short
 * write, 'h' half a write and then EIO, also on ftruncate, 'f' EIO on fsync, 's' two seconds for each
 * write, 'n' ENOSPC on write. Anything else, or no file, is no fault.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fault(void)
{
	static ssize_t (*real_read)(int, void *, size_t);
	const char *name = getenv("MK8S_ATTACK_FAULT");
	char byte = 0;
	int kept = errno, file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;

	if (!real_read)
		real_read = dlsym(RTLD_NEXT, "read");
	if (file >= 0) {
		if (real_read(file, &byte, 1) != 1)
			byte = 0;
		close(file);
	}
	errno = kept;
	return byte;
}

static int is_journal(int file)
{
	char link[64], target[512];
	int kept = errno;
	ssize_t size;

	snprintf(link, sizeof link, "/proc/self/fd/%d", file);
	size = readlink(link, target, sizeof target - 1);
	errno = kept;
	if (size < 0)
		return 0;
	target[size] = 0;
	return strstr(target, "/journal") && strstr(target, ".jsonl");
}

ssize_t write(int file, const void *data, size_t size)
{
	static ssize_t (*real)(int, const void *, size_t);

	if (!real)
		real = dlsym(RTLD_NEXT, "write");
	if (size > 100 && is_journal(file)) {
		switch (fault()) {
		case 'w':
			errno = EIO;
			return -1;
		case 'n':
			errno = ENOSPC;
			return -1;
		case 'p':
			return real(file, data, size / 2);
		case 'h':
			real(file, data, size / 2);
			errno = EIO;
			return -1;
		case 's':
			usleep(2000000);
		}
	}
	return real(file, data, size);
}

int fsync(int file)
{
	static int (*real)(int);

	if (!real)
		real = dlsym(RTLD_NEXT, "fsync");
	if (is_journal(file) && fault() == 'f') {
		errno = EIO;
		return -1;
	}
	return real(file);
}

int fdatasync(int file)
{
	static int (*real)(int);

	if (!real)
		real = dlsym(RTLD_NEXT, "fdatasync");
	if (is_journal(file) && fault() == 'f') {
		errno = EIO;
		return -1;
	}
	return real(file);
}

int ftruncate(int file, off_t length)
{
	static int (*real)(int, off_t);

	if (!real)
		real = dlsym(RTLD_NEXT, "ftruncate");
	if (is_journal(file) && fault() == 'h') {
		errno = EIO;
		return -1;
	}
	return real(file, length);
}

int ftruncate64(int file, off_t length)
{
	return ftruncate(file, length);
}
