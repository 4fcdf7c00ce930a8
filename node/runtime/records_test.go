package runtime

import (
	"fmt"
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
