#include "shared/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/random.h"

enum ferry_error files_join(char out[FILES_PATH_MAX], const char *folder, const char *name, struct ferry_why *why)
{
	int n = snprintf(out, FILES_PATH_MAX, "%s/%s", folder, name);
	if (n < 0 || n >= FILES_PATH_MAX)
		return ferry_fail(why, FERRY_LIMIT, "the path %.60s... is longer than %d bytes", folder,
				  FILES_PATH_MAX - 1);
	return FERRY_OK;
}

bool files_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static enum ferry_error io_error(struct ferry_why *why, const char *path, const char *what)
{
	enum ferry_error code = errno == ENOSPC || errno == EDQUOT ? FERRY_NO_SPACE : FERRY_IO;
	return ferry_fail(why, code, "%s cannot be %s: %s", path, what, strerror(errno));
}

static bool write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t done = write(fd, p, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false;
		p += done;
		n -= (size_t)done;
	}
	return true;
}

static void parent_of(const char *path, char out[FILES_PATH_MAX])
{
	snprintf(out, FILES_PATH_MAX, "%s", path);
	char *slash = strrchr(out, '/');
	if (!slash)
		snprintf(out, FILES_PATH_MAX, ".");
	else if (slash == out)
		out[1] = '\0';
	else
		*slash = '\0';
}

enum ferry_error files_sync_folder(const char *path, struct ferry_why *why)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return io_error(why, path, "opened");
	int failed = fsync(fd);
	int saved = errno;
	close(fd);
	errno = saved;
	return failed ? io_error(why, path, "synced") : FERRY_OK;
}

enum ferry_error files_replace(const char *path, const void *bytes, size_t n, mode_t mode, bool quick,
			       struct ferry_why *why)
{
	char beside[FILES_PATH_MAX], folder[FILES_PATH_MAX];
	int length = snprintf(beside, sizeof(beside), "%s.%ld.new", path, (long)getpid());
	if (length < 0 || (size_t)length >= sizeof(beside))
		return ferry_fail(why, FERRY_LIMIT, "the path %.60s... is too long", path);
	unlink(beside);
	int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		return io_error(why, beside, "made");
	bool good = fchmod(fd, mode) == 0 && write_all(fd, bytes, n) && (quick || fsync(fd) == 0);
	int saved = errno;
	good = close(fd) == 0 && good;
	errno = saved;
	if (!good || rename(beside, path) != 0) {
		enum ferry_error e = io_error(why, path, "written");
		unlink(beside);
		return e;
	}
	if (quick)
		return FERRY_OK;
	parent_of(path, folder);
	return files_sync_folder(folder, why);
}

enum ferry_error files_overwrite(const char *path, const void *bytes, size_t n, struct ferry_why *why)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return io_error(why, path, "opened");
	bool good = write_all(fd, bytes, n);
	int saved = errno;
	good = close(fd) == 0 && good;
	errno = saved;
	return good ? FERRY_OK : io_error(why, path, "written");
}

enum ferry_error files_read(const char *path, char **out_text, size_t *out_n, struct ferry_why *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return ferry_fail(why, FERRY_NOT_FOUND, "%s is not there", path);
	if (fd < 0)
		return io_error(why, path, "opened");
	char *text = malloc(FILES_READ_BYTES_MAX + 1);
	size_t n = 0;
	ssize_t got = text ? 1 : 0;
	while (got > 0 && n <= FILES_READ_BYTES_MAX) {
		got = read(fd, text + n, FILES_READ_BYTES_MAX + 1 - n);
		if (got > 0)
			n += (size_t)got;
		else if (got < 0 && errno == EINTR)
			got = 1;
	}
	int saved = errno;
	close(fd);
	errno = saved;
	enum ferry_error e = FERRY_OK;
	if (!text)
		e = FERRY_NO_MEMORY;
	else if (got < 0)
		e = io_error(why, path, "read");
	else if (n > FILES_READ_BYTES_MAX)
		e = ferry_fail(why, FERRY_CORRUPT, "%s is larger than %u bytes", path, FILES_READ_BYTES_MAX);
	if (e != FERRY_OK) {
		free(text);
		return e;
	}
	text[n] = '\0';
	*out_text = text;
	if (out_n)
		*out_n = n;
	return FERRY_OK;
}

enum ferry_error files_read_into(const char *path, char *out, size_t out_max, struct ferry_why *why)
{
	char *text = NULL;
	size_t n = 0;
	enum ferry_error e = files_read(path, &text, &n, why);
	if (e != FERRY_OK || !text)
		return e;
	if (n >= out_max || memchr(text, 0, n))
		e = ferry_fail(why, FERRY_CORRUPT, "%s is not what it should be (%zu bytes)", path, n);
	else
		memcpy(out, text, n + 1);
	secret_wipe(text, n); /* it may be a key */
	free(text);
	return e;
}

enum ferry_error files_make_folder(const char *path, mode_t mode, struct ferry_why *why)
{
	char partial[FILES_PATH_MAX];
	if (strlen(path) >= sizeof(partial))
		return ferry_fail(why, FERRY_LIMIT, "the path %.60s... is too long", path);
	snprintf(partial, sizeof(partial), "%s", path);
	for (char *p = partial + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(partial, 0755) != 0 && errno != EEXIST)
			return io_error(why, partial, "made");
		*p = '/';
	}
	if (mkdir(path, mode) != 0 && errno != EEXIST)
		return io_error(why, path, "made");
	struct stat s;
	if (stat(path, &s) != 0 || !S_ISDIR(s.st_mode))
		return ferry_fail(why, FERRY_IO, "%s is not a folder", path);
	return FERRY_OK;
}

enum ferry_error files_check_secret(const char *path, struct ferry_why *why)
{
	struct stat s;
	if (stat(path, &s) != 0)
		return io_error(why, path, "read");
	if (s.st_mode & 077)
		return ferry_fail(why, FERRY_IO, "%s may be read by others (mode %03o): run chmod 600 %s", path,
				  (unsigned)(s.st_mode & 0777), path);
	return FERRY_OK;
}

/* Open-file locks: they can be asked about without being taken, so that a look
 * never makes a starting program believe that it came second. */
static enum ferry_error lock_file(const char *path, int command, int *out_fd, struct ferry_why *why)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return io_error(why, path, "opened");
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	while (fcntl(fd, command, &lock) != 0) {
		if (errno == EINTR && command == F_OFD_SETLKW)
			continue;
		enum ferry_error e = errno == EAGAIN || errno == EACCES
					     ? ferry_fail(why, FERRY_EXISTS, "another program holds %s", path)
					     : io_error(why, path, "locked");
		close(fd);
		return e;
	}
	*out_fd = fd;
	return FERRY_OK;
}

enum ferry_error files_lock(const char *path, int *out_fd, struct ferry_why *why)
{
	return lock_file(path, F_OFD_SETLK, out_fd, why);
}

enum ferry_error files_lock_wait(const char *path, int *out_fd, struct ferry_why *why)
{
	return lock_file(path, F_OFD_SETLKW, out_fd, why);
}

bool files_locked(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES;
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	bool held = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
	close(fd);
	return held;
}
