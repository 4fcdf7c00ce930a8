package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// piece is a name in the data directory that is taken for a directory, or for a file, and what to do if it is something else.
type piece struct {
	path string
	kind pieceKind
	mend string
}

type pieceKind int

const (
	directory    pieceKind = iota
	file                   // opened where it is
	replacedFile           // put in the place of what is there: a link that leads nowhere is no harm
)

const (
	mendCopy = "put back a copy of it"
	mendAnew = "move it away: it is made anew"
)

// layout is what the parts of a server make in a data directory before they look at what is in it. docs/data-directory.md describes it.
var layout = []piece{
	{"lock", file, mendAnew},
	{"kubeconfig", replacedFile, mendAnew},
	{"svcplane.sock", replacedFile, mendAnew},
	{"store", directory, mendCopy},
	{"store/etcd", directory, mendCopy},
	{"store/etcd/member", directory, mendCopy},
	{"store/etcd/member/snap", directory, mendCopy},
	{"store/etcd/member/wal", directory, mendCopy},
	{"pki", directory, mendCopy},
	{"node", directory, mendAnew + ", without the pods' logs and emptyDir volumes"},
	{"node/name", file, mendAnew},
	{"node/pods", directory, mendAnew + ", without the pods' emptyDir volumes"},
	{"node/logs", directory, mendAnew + ", without the pods' logs"},
	{"images", directory, "make it anew, with your archives of images"},
	{"runtime", directory, mendAnew + ", and pods wait for images until `svcplane image import`"},
	{"runtime/node.json", replacedFile, mendAnew},
	// of the shim, by the name that it had before
	{"runtime/holder.lock", file, mendAnew},
	{"runtime/holder.log", file, mendAnew},
	{"runtime/holder.json", replacedFile, mendAnew},
	{"runtime/holder.sock", replacedFile, mendAnew},
	{"runtime/blobs", directory, mendAnew + ", and pulls begin anew"},
	{"runtime/containers", directory, mendAnew + ", and the pods are started anew"},
	{"runtime/sandboxes", directory, mendAnew + ", and the pods are started anew"},
	{"runtime/images", directory, mendAnew + ", and pods wait for images until `svcplane image import`"},
	{"volumes", directory, "put back a copy of it: it has the files of PersistentVolumes"},
}

// checkLayout refuses a data directory with a file where a directory belongs, a directory where a file does, or a link that
// leads nowhere: whoever meets it later can only try again, for ever. A link to a directory is one; what is not there is
// made later.
func checkLayout(dataDir string) error {
	for _, p := range layout {
		path := filepath.Join(dataDir, p.path)
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir() && p.kind != directory:
			return fmt.Errorf("%s is a directory and has to be a file: %s", path, p.mend)
		case err == nil && !info.IsDir() && p.kind == directory:
			return fmt.Errorf("%s is a file and has to be a directory: %s", path, p.mend)
		case err == nil:
			continue
		case p.kind == replacedFile:
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("looking for %s: %w: mend its permissions, or %s", path, err, p.mend)
		}
		if to, err := os.Readlink(path); err == nil {
			return fmt.Errorf("%s is a link to %s, where nothing is: mount or make what it leads to, or remove the link; or %s", path, to, p.mend)
		}
	}
	return nil
}
