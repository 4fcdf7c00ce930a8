package node

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestNoTwoPodsHaveTheSameUsers(t *testing.T) {
	ranges := userRanges{dir: t.TempDir()}
	take := func(uid string) uint32 {
		t.Helper()
		ids, err := ranges.of(types.UID(uid))
		if err != nil {
			t.Fatal(err)
		}
		if ids[0].ContainerId != 0 || ids[0].Length != usersPerPod || ids[0].HostId%usersPerPod != 0 || ids[0].HostId == 0 {
			t.Errorf("%s has %v", uid, ids)
		}
		return ids[0].HostId
	}
	seen := map[uint32]string{}
	for i := range 20 {
		uid := fmt.Sprint("pod-", i)
		base := take(uid)
		if other := seen[base]; other != "" {
			t.Errorf("%s and %s have the users from %d on", uid, other, base)
		}
		seen[base] = uid
		if again := take(uid); again != base {
			t.Errorf("%s has users from %d on, and then from %d on", uid, base, again)
		}
	}
	// After a restart too; a pod that went leaves its users to another one.
	ranges = userRanges{dir: ranges.dir}
	if base := take("pod-3"); seen[base] != "pod-3" {
		t.Errorf("after a restart pod-3 has the users of %s", seen[base])
	}
	if err := os.RemoveAll(filepath.Join(ranges.dir, "pod-3")); err != nil {
		t.Fatal(err)
	}
	if base := take("late"); seen[base] != "pod-3" {
		t.Errorf("a late pod has the users from %d on", base)
	}
	// A record that is broken is nobody's: it might be any range.
	if err := os.WriteFile(filepath.Join(ranges.dir, "pod-4", "userns"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, uid := range []types.UID{"pod-4", "later"} {
		if ids, err := ranges.of(uid); err == nil {
			t.Errorf("%s gets %v beside a broken record", uid, ids)
		}
	}
}
