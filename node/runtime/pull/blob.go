package pull

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sys/unix"

	"svcplane/disk"
)

const (
	// giveUpAfter is how many tries in a row may bring nothing.
	giveUpAfter = 8
	// stallAfter is how long a registry may send nothing within an answer.
	stallAfter = time.Minute
	firstWait  = time.Second
	longWait   = 30 * time.Second
	// patience is how long a registry's Retry-After is followed; the next try of a pod comes later than that.
	patience = 2 * time.Minute
)

// blobs fetches the blobs of one repository.
type blobs struct {
	client *http.Client // with the credentials
	base   string       // URL of the repository's blobs
	dir    string
	came   func(n int64) // octets that are there; negative: they were no use
	over   *atomic.Int64 // octets that came over the network
	wait   time.Duration // before the second try in a row that brings nothing
}

// final is an error that another try would not mend.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

func blobPath(dir string, digest v1.Hash) string {
	return filepath.Join(dir, digest.Algorithm+"-"+digest.Hex)
}

// fetch brings a blob into the directory, if it is not there. It goes on with what an earlier try has left.
func (b *blobs) fetch(ctx context.Context, d v1.Descriptor) error {
	if d.Digest.Algorithm != "sha256" || len(d.Digest.Hex) != sha256.Size*2 || !filepath.IsLocal(d.Digest.Hex) {
		return fmt.Errorf("digest %s: only sha256 is known", d.Digest)
	}
	if d.Size < 0 {
		return fmt.Errorf("the manifest says that %s has %d bytes", d.Digest, d.Size)
	}
	path := blobPath(b.dir, d.Digest)
	file, err := lockPart(ctx, path)
	if err != nil || file == nil {
		if err == nil {
			b.came(d.Size) // somebody else has fetched it
		}
		return err
	}
	defer file.Close()
	p := &part{file: file, want: d}
	most := int64(0) // that there was: what has to begin anew, since a registry knows no ranges, gets no further
	for idle, wait := 0, b.wait; ; {
		if err := p.open(b.came); err != nil {
			return err
		}
		most = max(most, p.have)
		err := b.rest(ctx, p)
		if err == nil {
			whole := p.have
			if err = p.verify(path); err == nil {
				return nil
			}
			b.came(-whole)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case disk.NoSpace(err):
			os.Remove(file.Name()) // what is there takes the room that others need
			return fmt.Errorf("%w: make room on the disk of %s", err, b.dir)
		case errors.As(err, new(final)):
			return err
		}
		if p.have > most {
			idle, wait = 0, b.wait
			continue
		}
		if idle++; idle >= giveUpAfter {
			return err
		}
		if asked := retryAfter(err); asked > patience {
			return err
		} else if asked > 0 {
			wait = asked
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		wait = min(2*wait, longWait)
	}
}

// lockPart opens the part of a blob for this process alone; nil if the blob is complete. Another process or pull may be at it.
func lockPart(ctx context.Context, path string) (*os.File, error) {
	for {
		if _, err := os.Stat(path); err == nil {
			return nil, nil
		}
		part, err := os.OpenFile(path+".part", os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return nil, fmt.Errorf("keeping a part of the image: %w", err)
		}
		err = unix.Flock(int(part.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && samePath(part) {
			return part, nil
		}
		part.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking a part of the image: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// samePath says whether the name of a file still leads to it: whoever had it before may have completed or removed it.
func samePath(f *os.File) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(f.Name())
	return err == nil && os.SameFile(open, now)
}

// part is a blob that is not complete.
type part struct {
	file   *os.File
	want   v1.Descriptor
	have   int64
	sum    hash.Hash
	opened bool
	old    bool // a part of it is from an earlier process
}

// open reads what is there, once, so that its digest can go on.
func (p *part) open(came func(int64)) error {
	if p.opened {
		return nil
	}
	p.opened, p.sum = true, sha256.New()
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > p.want.Size {
		return p.restart()
	}
	if p.have, err = io.Copy(p.sum, io.NewSectionReader(p.file, 0, info.Size())); err != nil {
		return fmt.Errorf("reading a part of the image: %w", err)
	}
	p.old = p.have > 0
	came(p.have)
	return nil
}

// restart forgets what is there.
func (p *part) restart() error {
	p.have, p.old = 0, false
	p.sum = sha256.New()
	return p.file.Truncate(0)
}

// verify gives a complete blob its name.
func (p *part) verify(path string) error {
	if got := hex.EncodeToString(p.sum.Sum(nil)); got != p.want.Digest.Hex {
		err := fmt.Errorf("it is corrupt: its digest is sha256:%s, not %s", got, p.want.Digest)
		old := p.old
		if failed := p.restart(); failed != nil {
			return final{failed}
		}
		if old {
			return err // what was there may be no good since a power cut: once more from the beginning
		}
		os.Remove(p.file.Name())
		return final{err}
	}
	if err := os.Rename(p.file.Name(), path); err != nil {
		return final{fmt.Errorf("keeping a part of the image: %w", err)}
	}
	return nil
}

// rest fetches what is missing of a blob.
func (b *blobs) rest(ctx context.Context, p *part) error {
	if p.have == p.want.Size {
		return nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+p.want.Digest.String(), nil)
	if err != nil {
		return final{err}
	}
	if p.have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.have))
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		if p.have > 0 { // it does not know ranges
			b.came(-p.have)
			if err := p.restart(); err != nil {
				return final{err}
			}
		}
	case http.StatusPartialContent:
		if start, ok := rangeStart(resp.Header.Get("Content-Range")); !ok || start != p.have {
			return final{fmt.Errorf("the registry sent the range %q and was asked for bytes from %d on", resp.Header.Get("Content-Range"), p.have)}
		}
	case http.StatusRequestedRangeNotSatisfiable:
		b.came(-p.have)
		return errors.Join(errors.New("the registry has less of it than the manifest says"), p.restart())
	default:
		return statusError(resp)
	}
	stalled := time.AfterFunc(stallAfter, func() { cancel(fmt.Errorf("nothing came for %v", stallAfter)) })
	defer stalled.Stop()
	return b.copy(p, watched{resp.Body, stalled})
}

// watched puts off the end of a wait with each read.
type watched struct {
	io.Reader
	timer *time.Timer
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	w.timer.Reset(stallAfter)
	return n, err
}

// copy writes what comes behind what is there.
func (b *blobs) copy(p *part, from io.Reader) error {
	buf := make([]byte, 256<<10)
	for seen := int64(0); ; {
		n, err := from.Read(buf)
		if int64(n) > p.want.Size-p.have {
			os.Remove(p.file.Name())
			return final{fmt.Errorf("it is longer than the %d bytes that the manifest says", p.want.Size)}
		}
		if n > 0 {
			if _, failed := p.file.WriteAt(buf[:n], p.have); failed != nil {
				return final{fmt.Errorf("writing a part of the image: %w", failed)}
			}
			p.sum.Write(buf[:n])
			p.have += int64(n)
			b.came(int64(n))
			b.over.Add(int64(n))
			if seen += int64(n); seen >= 16<<20 {
				seen = 0
				if failed := disk.Room(b.dir); failed != nil { // some is left to others
					return final{failed}
				}
			}
		}
		switch {
		case p.have == p.want.Size && (err != nil || n == 0):
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("it ended after %d of the %d bytes that the manifest says", p.have, p.want.Size)
		case err != nil:
			return err
		}
	}
}

func rangeStart(text string) (int64, bool) {
	rest, ok := strings.CutPrefix(text, "bytes ")
	if !ok {
		return 0, false
	}
	start, _, _ := strings.Cut(rest, "-")
	n, err := strconv.ParseInt(start, 10, 64)
	return n, err == nil
}

// refusal is an answer that is none of those that were asked for.
type refusal struct {
	said  *transport.Error
	after time.Duration // Retry-After; 0: not said
}

func (r refusal) Error() string { return r.said.Error() }
func (r refusal) Unwrap() error { return r.said }

// statusError is final unless the code says that it may pass.
func statusError(resp *http.Response) error {
	err := transport.CheckError(resp, http.StatusOK)
	said, ok := errors.AsType[*transport.Error](err)
	if !ok {
		return err
	}
	r := refusal{said: said}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		r.after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(resp.Header.Get("Retry-After")); err == nil {
		r.after = max(0, time.Until(at))
	}
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code >= 500 && code != http.StatusNotImplemented:
		return r
	}
	return final{r}
}

func retryAfter(err error) time.Duration {
	if r, ok := errors.AsType[refusal](err); ok {
		return r.after
	}
	return 0
}

// Tidy removes blobs and parts that nobody has touched for a while, and nobody is at.
func Tidy(dir string, age time.Duration) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > age {
			removeUnlocked(filepath.Join(dir, e.Name()))
		}
	}
	return nil
}

// removeUnlocked leaves a part that somebody goes on with.
func removeUnlocked(path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		os.Remove(path)
	}
}
