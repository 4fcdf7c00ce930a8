package node

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestLiveCommandThatIsNotThereBacksOff(t *testing.T) {
	l := newLive(t)
	l.create(pod("typo", func(p *corev1.Pod) {
		p.Spec.Containers[0].Image, p.Spec.Containers[0].Command = "svcplane/host", []string{"/no/such/program"}
	}))
	p := l.wantPod("typo", waitingFor("CrashLoopBackOff"))
	s := p.Status.ContainerStatuses[0]
	if last := s.LastTerminationState.Terminated; last == nil || last.ExitCode != 128 || last.Reason != "StartError" || !strings.Contains(last.Message, "/no/such/program") {
		t.Errorf("last state is %+v", last)
	}
	// One retry comes at once, the next after 10 s.
	if s.RestartCount > 1 {
		t.Errorf("it was started %d times more", s.RestartCount)
	}
	l.create(pod("once", func(p *corev1.Pod) {
		p.Spec.RestartPolicy = corev1.RestartPolicyNever
		p.Spec.Containers[0].Image, p.Spec.Containers[0].Command = "svcplane/host", []string{"/no/such/program"}
	}))
	l.wantPod("once", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
}
