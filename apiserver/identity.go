package apiserver

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"svcplane/apiserver/store"
)

// storeDir and pkiDir are the two halves of a cluster's identity in a data directory.
func storeDir(dataDir string) string { return filepath.Join(dataDir, "store") }
func pkiDir(dataDir string) string   { return filepath.Join(dataDir, "pki") }

// StoreDir is where the embedded store of a data directory lies.
func StoreDir(dataDir string) string { return storeDir(dataDir) }

// PKIDir is where the keys and certificates of a data directory lie.
func PKIDir(dataDir string) string { return pkiDir(dataDir) }

// CheckIdentity refuses a data directory that has lost a part of what makes it this cluster and no other: making a new one
// in its place would begin another cluster, in silence, and overwrite what a copy could mend. The notes that it
// returns are about parts that are lost, too, but can be made anew without harm. External says that the store is elsewhere.
func CheckIdentity(dataDir string, external bool) (notes []string, err error) {
	p := &PKI{dir: pkiDir(dataDir)}
	var have [2]bool
	for i, path := range []string{p.cert(pairCA), p.key(pairCA)} {
		if have[i], err = exists(path); err != nil {
			return nil, err
		}
	}
	stored, err := store.Exists(storeDir(dataDir))
	if err != nil || external {
		stored = false
	}
	if err != nil {
		return nil, err
	}
	ran, err := served(dataDir)
	if err != nil {
		return nil, err
	}
	certificate, key := have[0], have[1]
	switch {
	case certificate && !key:
		return nil, lost(dataDir, p.key(pairCA), "the certificate that belongs to it is there")
	case key && !certificate:
		return nil, lost(dataDir, p.cert(pairCA), "the key that belongs to it is there")
	case !key && stored:
		return nil, lost(dataDir, p.key(pairCA), "the store with this cluster's objects is there")
	case key && !stored && ran && !external:
		return nil, lost(dataDir, storeDir(dataDir), "the keys of this cluster are there")
	}
	if tokens, err := exists(p.Path(keyAccounts)); err != nil {
		return nil, err
	} else if !tokens && key && ran {
		notes = append(notes, fmt.Sprintf("%s is gone and made anew: every token of a service account is void; pods get new ones within a minute or when they are started again", p.Path(keyAccounts)))
	}
	return notes, nil
}

func lost(dataDir, file, there string) error {
	return fmt.Errorf("%s is gone, and %s: put it back from a copy; or begin anew, either without everything (`svcplane cleanup --data`) "+
		"or without the objects alone (move %s and %s away: images and the files of volumes stay)", file, there, storeDir(dataDir), pkiDir(dataDir))
}

// served says whether a server got as far as to open its store here: each of these is made after that.
func served(dataDir string) (bool, error) {
	for _, path := range []string{KubeconfigPath(dataDir), filepath.Join(dataDir, "runtime"), filepath.Join(dataDir, "node")} {
		if there, err := exists(path); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking for %s: %w: mend the permissions", path, err)
	}
	return true, nil
}
