/* The same as ../main.go, without a runtime: what the kernel takes by itself. */

#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGTERM);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0)
		err(1, "listen");
	char **worker = argv + 1;
	while (strcmp(worker[-1], "--") != 0)
		worker++;
	pid_t current = 0;
	for (int generation = 1;; generation++) {
		pid_t old = current;
		char text[16];
		snprintf(text, sizeof text, "%d", generation);
		setenv("SERVER_STARTER_GENERATION", text, 1);
		if ((current = vfork()) < 0)
			err(1, "vfork");
		if (current == 0) {
			sigprocmask(SIG_UNBLOCK, &signals, NULL);
			execv(worker[0], worker);
			_exit(255);
		}
		if (old > 0) {
			kill(old, SIGTERM);
			waitpid(old, NULL, 0);
		}
		int received;
		sigwait(&signals, &received);
		if (received == SIGTERM) {
			kill(current, SIGTERM);
			return 0;
		}
	}
}
