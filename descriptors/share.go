package descriptors

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Shares are how many descriptors each part may hold.
type Shares struct {
	Limit                    int
	Plane, API, DNS, Ingress int
}

// minimum is what the smallest share of each part adds up to.
const minimum = 512

// Limit reads what the kernel allows this process. The Go runtime has raised the soft limit to the hard one by then.
func Limit() (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("reading the limit of open files: %w", err)
	}
	return int(min(r.Cur, 1<<24)), nil
}

// Share divides a limit: a quarter is the plane's own, as far as it can have a use for it, and half of the rest the
// ingress's, which gets what API and DNS do not need, too.
func Share(limit int) (Shares, error) {
	if limit < minimum {
		return Shares{}, fmt.Errorf("only %d files may be open (ulimit -n): raise the limit to %d at least, 4096 or more is better (LimitNOFILE= in a systemd unit)", limit, minimum)
	}
	s := Shares{Limit: limit, Plane: min(limit/4, 2048)}
	rest := limit - s.Plane
	s.API = min(rest/4, 4096)
	s.DNS = min(rest/4, 1536)
	s.Ingress = rest - s.API - s.DNS
	return s, nil
}

// DNSClients are connections, DNSQuestions those that wait for an upstream with a socket each.
func (s Shares) DNSClients() int   { return min(s.DNS/3, 256) }
func (s Shares) DNSQuestions() int { return min(s.DNS/3, 512) }

// IngressClients are connections of clients. Those over it are told so, on a connection each.
func (s Shares) IngressClients() int { return s.Ingress/2 - s.Ingress/16 }

// IngressEndpoints are connections to endpoints: HTTP/2 clients have many requests under way on one of theirs.
func (s Shares) IngressEndpoints() int { return s.Ingress / 2 }

func (s Shares) String() string {
	return fmt.Sprintf("%d: API %d, DNS %d, ingress %d (clients %d, endpoints %d), the rest %d",
		s.Limit, s.API, s.DNS, s.Ingress, s.IngressClients(), s.IngressEndpoints(), s.Plane)
}
