package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// serveRegistry serves the image of an archive under a name, over plain HTTP, to a user with a password. An answer with a blob
// is cut off after so many octets, and goes on by Range.
func serveRegistry(args []string) error {
	if len(args) != 5 {
		return errors.New("usage: lanserver registry HOST:PORT USER:PASSWORD CUT ARCHIVE NAME")
	}
	user, password, _ := strings.Cut(args[1], ":")
	most, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if err := fill(inner, args[3], args[4]); err != nil {
		return err
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="lanserver"`)
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") {
			inner.ServeHTTP(w, r)
			return
		}
		whole, asked := httptest.NewRecorder(), r.Clone(r.Context())
		asked.Header.Del("Range") // that is for ServeContent
		inner.ServeHTTP(whole, asked)
		blob := &breaking{ResponseWriter: w, left: most}
		http.ServeContent(blob, r, "", time.Time{}, bytes.NewReader(whole.Body.Bytes()))
	})
	server := &http.Server{Addr: args[0], Handler: handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	return server.ListenAndServe()
}

// fill puts the image of an archive into a registry that nobody else sees yet.
func fill(inner http.Handler, archive, ref string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: inner, ReadHeaderTimeout: 10 * time.Second}}
	s.Start()
	defer s.Close()
	img, err := tarball.ImageFromPath(archive, nil)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(l.Addr().String() + "/" + ref)
	if err != nil {
		return err
	}
	return remote.Write(tag, img)
}

// breaking ends the connection when so much has been sent.
type breaking struct {
	http.ResponseWriter
	left int
}

// Write sends what is allowed of p.
func (b *breaking) Write(p []byte) (int, error) {
	if len(p) <= b.left {
		b.left -= len(p)
		return b.ResponseWriter.Write(p)
	}
	_, _ = b.ResponseWriter.Write(p[:b.left]) // the client may be gone
	_ = http.NewResponseController(b.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
