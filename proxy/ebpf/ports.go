package ebpf

import (
	"fmt"
	"os"
)

// localPorts are the ports that the kernel gives to sockets of this namespace.
func localPorts() ([2]uint16, error) {
	const file = "/proc/sys/net/ipv4/ip_local_port_range"
	text, err := os.ReadFile(file)
	if err != nil {
		return [2]uint16{}, fmt.Errorf("reading which ports sockets get: %w", err)
	}
	var ports [2]uint16
	if _, err := fmt.Sscan(string(text), &ports[0], &ports[1]); err != nil {
		return ports, fmt.Errorf("reading %s: %w", file, err)
	}
	return ports, nil
}

// firstPort is the first that is not for well-known services (RFC 6335).
const firstPort = 1024

// freePorts is the largest range of ports that neither sockets nor NodePorts come from: masqueraded clients get
// those, so that no reply is taken for one to the node itself. Without such a gap it is all of them, and only
// ports with a listener are left out.
func freePorts(local, nodePorts [2]uint16) [2]uint16 {
	best := [2]uint16{}
	start := -1
	for port := firstPort; port <= 1<<16; port++ {
		free := port < 1<<16 && !within(port, local) && !within(port, nodePorts)
		switch {
		case free && start < 0:
			start = port
		case !free && start >= 0:
			if best[0] == 0 || port-start > int(best[1])-int(best[0])+1 {
				best = [2]uint16{uint16(start), uint16(port - 1)}
			}
			start = -1
		}
	}
	if best[0] == 0 {
		return [2]uint16{firstPort, 1<<16 - 1}
	}
	return best
}

func within(port int, r [2]uint16) bool { return port >= int(r[0]) && port <= int(r[1]) }
