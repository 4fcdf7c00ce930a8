package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// keeper asks over connections that it keeps, each idle for up to 50 ms before the next request, and asks nothing twice: a
// connection that ends under a request has lost it.
type keeper struct {
	addr, until    string
	answered, lost atomic.Int64
}

// keep is `lanserver keep HOST:PORT CONNECTIONS FILE`: it asks until FILE is there.
func keep(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: lanserver keep HOST:PORT CONNECTIONS FILE")
	}
	connections, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	k := keeper{addr: args[0], until: args[2]}
	var all sync.WaitGroup
	for range connections {
		all.Go(k.run)
	}
	all.Wait()
	fmt.Printf("%d of %d requests lost\n", k.lost.Load(), k.answered.Load()+k.lost.Load())
	return nil
}

func (k *keeper) run() {
	var conn *kept
	for {
		if _, err := os.Stat(k.until); err == nil {
			return
		}
		var err error
		if conn == nil {
			conn, err = dial(k.addr)
		}
		last := true
		if err == nil {
			last, err = conn.ask()
		}
		if err != nil {
			k.lost.Add(1)
			fmt.Println(time.Now().Format(time.StampMilli), err)
		} else {
			k.answered.Add(1)
		}
		if last && conn != nil {
			conn.Close()
			conn = nil
		}
		time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
	}
}

type kept struct {
	net.Conn
	from *bufio.Reader
}

const patience = 20 * time.Second

func dial(addr string) (*kept, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &kept{conn, bufio.NewReader(conn)}, nil
}

// ask says whether the connection is over.
func (c *kept) ask() (last bool, err error) {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return true, err
	}
	if _, err := io.WriteString(c, "GET /hostname HTTP/1.1\r\nHost: web\r\n\r\n"); err != nil {
		return true, err
	}
	answer, err := http.ReadResponse(c.from, nil)
	if err != nil {
		return true, fmt.Errorf("from %s: %w", c.LocalAddr(), err)
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return true, err
	}
	if answer.StatusCode != http.StatusOK {
		return true, errors.New(answer.Status)
	}
	return answer.Close, nil
}
