package dns

import (
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	batchSize  = 32   // datagrams per system call
	maxRequest = 2048 // octets of a question over UDP; a longer one is cut and then malformed
)

// datagram is struct mmsghdr of recvmmsg(2).
type datagram struct {
	header unix.Msghdr
	length uint32
}

// batch moves many datagrams per system call and allocates nothing: replies go to where the kernel wrote the
// asker's address. It belongs to one goroutine, which blocks in the kernel: at rates that do not fill a batch, waking
// one thread costs half of what the runtime's poller does.
type batch struct {
	socket   *udpSocket
	in       [batchSize]datagram
	out      [batchSize]datagram
	inParts  [batchSize]unix.Iovec
	outParts [batchSize]unix.Iovec
	from     [batchSize]unix.RawSockaddrInet6 // large enough for both families
	requests [batchSize][maxRequest]byte
	replies  [batchSize][maxReplyUDP]byte
	n        int // replies to be sent
}

func newBatch(socket *udpSocket) *batch {
	b := &batch{socket: socket}
	for i := range b.in {
		b.inParts[i].Base = &b.requests[i][0]
		b.inParts[i].SetLen(maxRequest)
		b.in[i].header = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&b.from[i])), Iov: &b.inParts[i]}
		b.in[i].header.SetIovlen(1)
	}
	return b
}

// read waits for a datagram, takes what else has arrived, and gives the number; request and asker tell of each. After
// close of the socket it returns at once, with empty ones.
func (b *batch) read() (int, error) {
	b.n = 0
	for i := range b.in {
		b.in[i].header.Namelen = uint32(unsafe.Sizeof(b.from[i]))
	}
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(b.socket.fd), uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_WAITFORONE, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR, unix.ENOMEM, unix.ENOBUFS, unix.ECONNREFUSED: // passing, or about an asker that is gone
		default:
			return 0, errno
		}
	}
}

func (b *batch) request(i int) []byte { return b.requests[i][:b.in[i].length] }

// asker is where the i-th datagram came from.
func (b *batch) asker(i int) netip.AddrPort {
	sa := &b.from[i]
	port := (*[2]byte)(unsafe.Pointer(&sa.Port))
	p := uint16(port[0])<<8 | uint16(port[1])
	if sa.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr), p)
	}
	addr := netip.AddrFrom16(sa.Addr)
	if addr.IsLinkLocalUnicast() {
		addr = addr.WithZone(strconv.Itoa(int(sa.Scope_id)))
	}
	return netip.AddrPortFrom(addr, p)
}

// reply queues the reply to the i-th datagram; it must stay unchanged until flush.
func (b *batch) reply(i int, reply []byte) {
	if len(reply) == 0 {
		return
	}
	b.outParts[b.n].Base = &reply[0]
	b.outParts[b.n].SetLen(len(reply))
	b.out[b.n].header = unix.Msghdr{Name: b.in[i].header.Name, Namelen: b.in[i].header.Namelen, Iov: &b.outParts[b.n]}
	b.out[b.n].header.SetIovlen(1)
	b.n++
}

// flush sends what was queued. One that cannot be sent is skipped: its asker will ask again.
func (b *batch) flush() {
	for sent := 0; sent < b.n; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(b.socket.fd), uintptr(unsafe.Pointer(&b.out[sent])), uintptr(b.n-sent), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			sent += int(n)
		case unix.EINTR:
		default:
			sent++
		}
	}
}
