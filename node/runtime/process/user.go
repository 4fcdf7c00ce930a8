package process

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// User says who a process runs as. Name is the form of an image's config: user[:group], each a name or a
// number; UID, GID and Groups, where set, override it.
type User struct {
	// Strict: the groups are those only, without the ones that the container's /etc/group has for the user.
	Strict bool     `json:"strictGroups,omitempty"`
	Name   string   `json:"name,omitempty"`
	UID    *uint32  `json:"uid,omitempty"`
	GID    *uint32  `json:"gid,omitempty"`
	Groups []uint32 `json:"groups,omitempty"`
}

// resolve looks names up in /etc/passwd and /etc/group of the calling thread's root and gives the
// credential and the home directory.
func (u User) resolve() (*syscall.Credential, string, error) {
	credential := &syscall.Credential{}
	name, group, _ := strings.Cut(u.Name, ":")
	if u.UID != nil {
		name = strconv.FormatUint(uint64(*u.UID), 10)
	}
	entry, err := findUser(name)
	if err != nil {
		return nil, "", err
	}
	credential.Uid, credential.Gid = entry.uid, entry.gid
	if group != "" {
		if credential.Gid, err = findGroup(group); err != nil {
			return nil, "", err
		}
	}
	if u.GID != nil {
		credential.Gid = *u.GID
	}
	groups := u.Groups
	if group == "" && entry.name != "" && !u.Strict {
		member, err := memberships(entry.name)
		if err != nil {
			return nil, "", err
		}
		groups = append(member, groups...)
	}
	// The group itself, too, as in containerd: what drops it later with setgid(2) has it still.
	for _, g := range append([]uint32{credential.Gid}, groups...) {
		if !slices.Contains(credential.Groups, g) {
			credential.Groups = append(credential.Groups, g)
		}
	}
	return credential, entry.home, nil
}

// Identity is who a process runs as.
type Identity struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// Identify says whom the user is in the calling thread's root.
func (u User) Identify() (Identity, error) {
	c, _, err := u.resolve()
	if err != nil {
		return Identity{}, err
	}
	return Identity{UID: c.Uid, GID: c.Gid, Groups: c.Groups}, nil
}

type passwdEntry struct {
	name     string
	uid, gid uint32
	home     string
}

// findUser finds a user by name or number. A number that no entry has is a user without a name.
func findUser(name string) (passwdEntry, error) {
	if name == "" {
		name = "0"
	}
	number, numeric := parseID(name)
	found := passwdEntry{uid: number, home: "/"}
	ok := numeric
	err := eachLine("/etc/passwd", 7, func(f []string) bool {
		uid, valid := parseID(f[2])
		gid, validGroup := parseID(f[3])
		if !valid || !validGroup || (f[0] != name && (!numeric || uid != number)) {
			return true
		}
		found, ok = passwdEntry{name: f[0], uid: uid, gid: gid, home: f[5]}, true
		return false
	})
	if err != nil {
		return passwdEntry{}, err
	}
	if !ok {
		return passwdEntry{}, fmt.Errorf("find user %q: no such entry in the container's /etc/passwd; set runAsUser to a number", name)
	}
	return found, nil
}

func findGroup(name string) (uint32, error) {
	gid, ok := parseID(name)
	if ok {
		return gid, nil
	}
	err := eachLine("/etc/group", 3, func(f []string) bool {
		if f[0] == name {
			gid, ok = parseID(f[2])
		}
		return !ok
	})
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("find group %q: no such entry in the container's /etc/group; set runAsGroup to a number", name)
	}
	return gid, nil
}

// memberships lists the groups whose entry names the user.
func memberships(user string) ([]uint32, error) {
	var groups []uint32
	err := eachLine("/etc/group", 4, func(f []string) bool {
		for member := range strings.SplitSeq(f[3], ",") {
			if gid, ok := parseID(f[2]); ok && member == user {
				groups = append(groups, gid)
			}
		}
		return true
	})
	return groups, err
}

// eachLine calls fn with the fields of each line of a passwd-like file; no file is no lines.
func eachLine(path string, fields int, fn func([]string) bool) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up a user: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if parts := strings.Split(lines.Text(), ":"); len(parts) >= fields && !fn(parts) {
			break
		}
	}
	return lines.Err()
}

func parseID(text string) (uint32, bool) {
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err == nil
}
