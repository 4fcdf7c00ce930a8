package main

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

func main() {
	serve := flag.String("serve", "", "be the endpoint, here")
	url := flag.String("url", "", "what to connect to")
	host := flag.String("host", "", "Host header")
	conns := flag.Int("c", 64, "connections")
	length := flag.Duration("d", 2*time.Second, "how long")
	size := flag.Int("size", 128, "bytes of a message")
	flag.Parse()
	var err error
	if *serve != "" {
		err = http.ListenAndServe(*serve, http.HandlerFunc(echo))
	} else {
		err = load(*url, *host, *conns, *length, *size)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "wsload:", err)
		os.Exit(1)
	}
}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return // it was answered
	}
	defer c.Close()
	for {
		kind, data, err := c.ReadMessage()
		if err != nil || c.WriteMessage(kind, data) != nil {
			return
		}
	}
}

func load(url, host string, conns int, length time.Duration, size int) error {
	all := make([]*websocket.Conn, conns)
	for i := range all {
		c, _, err := websocket.DefaultDialer.Dial(url, http.Header{"Host": {host}})
		if err != nil {
			return err
		}
		defer c.Close()
		all[i] = c
	}
	took, errs := make([][]time.Duration, conns), make([]error, conns)
	began := time.Now()
	var wg sync.WaitGroup
	for i, c := range all {
		wg.Go(func() { took[i], errs[i] = talk(c, began.Add(length), size) })
	}
	wg.Wait()
	seconds := time.Since(began).Seconds()
	times := slices.Concat(took...)
	slices.Sort(times)
	if err := errors.Join(errs...); err != nil || len(times) == 0 {
		return errors.Join(errors.New("not every message came back"), err)
	}
	at := func(share int) float64 { return float64(times[(len(times)-1)*share/100]) / float64(time.Millisecond) }
	fmt.Printf("%d %.0f %.2f %.2f\n", len(times), float64(len(times))/seconds, at(50), at(99))
	return nil
}

func talk(c *websocket.Conn, until time.Time, size int) (took []time.Duration, err error) {
	message := make([]byte, size)
	for n := byte(0); time.Now().Before(until); n++ {
		message[0] = n
		sent := time.Now()
		if err := c.WriteMessage(websocket.BinaryMessage, message); err != nil {
			return took, err
		}
		_, got, err := c.ReadMessage()
		if err != nil {
			return took, err
		}
		if !slices.Equal(got, message) {
			return took, errors.New("a message came back changed")
		}
		took = append(took, time.Since(sent))
	}
	return took, nil
}
