package pull

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Underway is a pull of this or another process that is going on.
type Underway struct {
	Ref   string    `json:"ref"` // full
	Done  int64     `json:"done"`
	Total int64     `json:"total"`
	Began time.Time `json:"began"`
}

// underwaySuffix is that of files that say how far a pull is. Whoever pulls holds a lock on its file.
const underwaySuffix = ".pulling"

// ListUnderway says which pulls into a directory of blobs are going on.
func ListUnderway(dir string) []Underway {
	paths, _ := filepath.Glob(filepath.Join(dir, "*"+underwaySuffix))
	var all []Underway
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue // it has just ended
		}
		var u Underway
		locked := errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
		raw, err := io.ReadAll(io.LimitReader(f, 64<<10))
		f.Close()
		if locked && err == nil && json.Unmarshal([]byte(strings.TrimRight(string(raw), " ")), &u) == nil {
			all = append(all, u)
		}
	}
	return all
}

// announcement tells other processes how far a pull is, once a second.
type announcement struct {
	mu   sync.Mutex
	file *os.File // nil: another process pulls the same, or it cannot be told
	now  Underway
	last time.Time
}

// announce begins to tell of a pull. That it cannot is no reason not to pull.
func announce(dir, ref string) *announcement {
	a := &announcement{now: Underway{Ref: ref, Began: time.Now()}}
	sum := sha256.Sum256([]byte(ref))
	f, err := os.OpenFile(filepath.Join(dir, hex.EncodeToString(sum[:8])+underwaySuffix), os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return a
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil || !samePath(f) {
		f.Close()
		return a
	}
	a.file = f
	a.tell(0, 0)
	return a
}

func (a *announcement) tell(done, total int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file == nil || time.Since(a.last) < time.Second {
		return
	}
	a.last, a.now.Done, a.now.Total = time.Now(), done, total
	raw, err := json.Marshal(a.now)
	if err != nil {
		return
	}
	const width = 64                                                     // numbers get longer and shorter: what is left of a longer text is spaces
	_, _ = a.file.WriteAt(append(raw, strings.Repeat(" ", width)...), 0) // it is for people who look
}

func (a *announcement) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.file != nil {
		os.Remove(a.file.Name())
		a.file.Close()
		a.file = nil
	}
}
