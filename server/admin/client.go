package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
)

// ask sends one request to the server of a data directory and decodes its JSON answer into to.
func ask(ctx context.Context, dataDir, method, path string, query url.Values, to any) error {
	socket := SocketPath(dataDir)
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://svcplane"+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return notRunning(dataDir, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	return json.NewDecoder(resp.Body).Decode(to)
}

// refusal is the error that a server answered with.
func refusal(resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	said := errors.New(strings.TrimSpace(string(text)))
	switch resp.StatusCode {
	case http.StatusNotFound:
		return errors.New("the running server does not have that part: it was started with --disable")
	case http.StatusBadRequest:
		return BadRequest{said}
	}
	return said
}

func notRunning(dataDir string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("no permission to open %s: run this as root", SocketPath(dataDir))
	}
	var dial *net.OpError
	if errors.As(err, &dial) {
		return fmt.Errorf("no server runs on data directory %s: start it with `svcplane server`, or say --data-dir", dataDir)
	}
	return err
}
