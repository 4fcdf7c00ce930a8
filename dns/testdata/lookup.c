// Prints the addresses of a name, one per line: built with musl-gcc by the tests.
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
int main(int argc, char **argv) {
	struct addrinfo hints, *all, *a;
	char text[64];
	int err;
	memset(&hints, 0, sizeof hints);
	hints.ai_socktype = SOCK_STREAM;
	err = getaddrinfo(argv[1], 0, &hints, &all);
	if (err) { printf("error %d\n", err); return 0; }
	for (a = all; a; a = a->ai_next) {
		void *ip = a->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)a->ai_addr)->sin_addr : (void *)&((struct sockaddr_in6 *)a->ai_addr)->sin6_addr;
		puts(inet_ntop(a->ai_family, ip, text, sizeof text));
	}
	return 0;
}
