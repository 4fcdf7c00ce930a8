package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestRecordsStayBehindOnAFullDisk: a pod can be stopped where its end cannot be written down; any other error counts.
func TestRecordsStayBehindOnAFullDisk(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS} {
		if err := behind(fmt.Errorf("write: %w", errno)); err != nil {
			t.Errorf("%v stops a pod from being stopped: %v", errno, err)
		}
	}
	if behind(syscall.EACCES) == nil {
		t.Error("a wrong permission goes by in silence")
	}
	if behind(nil) != nil {
		t.Error("an error from nowhere")
	}
}

// TestBrokenNodeRecordIsBegunAnew: a power failure leaves files empty, and neither a start nor a cleanup may need hands then.
func TestBrokenNodeRecordIsBegunAnew(t *testing.T) {
	for _, content := range []string{"", "{", "\x00\x00", `{"nextAddress": "x"}`} {
		s := store{dir: t.TempDir()}
		if err := os.WriteFile(filepath.Join(s.dir, "node.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if record, err := s.loadNode(); err != nil || record.NextAddress != 0 || record.Routing.IPv4 != "" {
			t.Errorf("%q: %+v, %v", content, record, err)
		}
		if err := s.saveNode(nodeRecord{NextAddress: 7}); err != nil {
			t.Fatal(err)
		}
		if record, err := s.loadNode(); err != nil || record.NextAddress != 7 {
			t.Errorf("%q, written anew: %+v, %v", content, record, err)
		}
	}
}
