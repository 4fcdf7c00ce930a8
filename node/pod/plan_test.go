package pod

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// holds builds what the runtime has from words: "box" a ready sandbox, "oldbox" one that is not,
// "name:running", "name:created", "name:exit3". Later words are newer.
func holds(words ...string) *State {
	st := &State{}
	for i, word := range words {
		name, state, _ := strings.Cut(word, ":")
		if state == "" {
			box := &runtimeapi.PodSandboxStatus{Id: word, Metadata: &runtimeapi.PodSandboxMetadata{}, Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.0.0.1"}}
			if word == "oldbox" {
				box.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
			}
			st.Sandboxes = append([]*runtimeapi.PodSandboxStatus{box}, st.Sandboxes...)
			continue
		}
		c := &runtimeapi.ContainerStatus{Id: name, Metadata: &runtimeapi.ContainerMetadata{Name: name}, CreatedAt: int64(i)}
		switch {
		case state == "running":
			c.State = runtimeapi.ContainerState_CONTAINER_RUNNING
		case strings.HasPrefix(state, "exit"):
			c.State = runtimeapi.ContainerState_CONTAINER_EXITED
			if _, err := fmt.Sscanf(state, "exit%d", &c.ExitCode); err != nil {
				panic(err)
			}
		}
		st.Containers = append([]*runtimeapi.ContainerStatus{c}, st.Containers...)
	}
	return st
}

// text renders a plan: what is killed, whether a sandbox is made, what is started.
func (p Plan) text() string {
	var words []string
	if p.KillPod {
		words = append(words, "stop all")
	}
	for _, k := range p.Kill {
		words = append(words, "kill "+k.Container.Name+" ("+k.Message+")")
	}
	if p.CreateSandbox {
		words = append(words, fmt.Sprintf("box %d", p.Attempt))
	}
	for _, c := range p.Start {
		words = append(words, "start "+c.Name)
	}
	return strings.Join(words, ", ")
}

// podOf makes a pod of containers a and b, with init containers i1, side (which stays) and i2 if asked for.
func podOf(policy corev1.RestartPolicy, inits bool) *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	p := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: policy, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}}}
	if inits {
		p.Spec.InitContainers = []corev1.Container{{Name: "i1"}, {Name: "side", RestartPolicy: &always}, {Name: "i2"}}
	}
	return p
}

func TestPlan(t *testing.T) {
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	for _, c := range []struct {
		policy corev1.RestartPolicy
		inits  bool
		state  string
		want   string
	}{
		{always, false, "", "box 0, start a, start b"},
		{always, false, "box a:running b:running", ""},
		{always, false, "box a:running", "start b"},
		{always, false, "box a:created b:running", "start a"},
		{always, false, "box a:running b:exit0", "start b"},
		{onFailure, false, "box a:running b:exit0", ""},
		{onFailure, false, "box a:running b:exit1", "start b"},
		{never, false, "box a:running b:exit1", ""},
		{never, false, "box a:exit0 b:exit1", "stop all"},
		// the newest instance counts
		{onFailure, false, "box a:running b:exit1 b:exit0", ""},
		// a sandbox that is gone takes everything with it
		{always, false, "oldbox a:exit0 b:exit137", "stop all, box 1, start a, start b"},
		{onFailure, false, "oldbox a:exit0 b:exit137", "stop all, box 1, start b"},
		{onFailure, false, "oldbox a:exit0 b:exit0", "stop all"},
		{never, false, "oldbox a:exit137 b:exit137", "stop all"},
		{never, false, "oldbox", "stop all, box 1, start a, start b"},
		{always, false, "box box a:running b:running", "stop all, box 1, start a, start b"},
		// init containers one after the other, the sidecar stays
		{always, true, "", "box 0, start i1"},
		{always, true, "box i1:running", ""},
		{always, true, "box i1:exit1", "start i1"},
		{never, true, "box i1:exit1", "stop all"},
		{always, true, "box i1:exit0", "start side"},
		{always, true, "box i1:exit0 side:running", "start i2"},
		{always, true, "box i1:exit0 side:running i2:running", ""},
		{always, true, "box i1:exit0 side:exit0 i2:running", "start side"},
		{always, true, "box i1:exit0 side:running i2:exit0", "start a, start b"},
		{always, true, "box i1:exit0 side:exit1 i2:exit0 a:running b:running", "start side"},
		// what is left of init containers does not matter once the pod runs
		{always, true, "box side:running a:running b:running", ""},
		{never, true, "box i1:exit0 side:running i2:exit0 a:exit0 b:exit0", "stop all"},
		{always, true, "oldbox i1:exit0 side:exit137 i2:exit0 a:exit137 b:exit137", "stop all, box 1, start i1"},
	} {
		started := func(string) (Verdict, bool) { return Verdict{Started: true, Ready: true}, true }
		if got := MakePlan(podOf(c.policy, c.inits), holds(strings.Fields(c.state)...), started).text(); got != c.want {
			t.Errorf("%s, %q: got %q, want %q", c.policy, c.state, got, c.want)
		}
	}
}

func TestPlanByProbes(t *testing.T) {
	for _, c := range []struct {
		policy  corev1.RestartPolicy
		verdict Verdict
		want    string
	}{
		{corev1.RestartPolicyAlways, Verdict{Started: true, LivenessFailed: true}, "kill a (Container a failed liveness probe, will be restarted), start a"},
		{corev1.RestartPolicyNever, Verdict{Started: true, LivenessFailed: true}, "kill a (Container a failed liveness probe)"},
		{corev1.RestartPolicyAlways, Verdict{StartupFailed: true}, "kill a (Container a failed startup probe, will be restarted), start a"},
		{corev1.RestartPolicyAlways, Verdict{}, ""},
	} {
		verdicts := func(id string) (Verdict, bool) {
			if id == "a" {
				return c.verdict, true
			}
			return Verdict{Started: true, Ready: true}, true
		}
		if got := MakePlan(podOf(c.policy, false), holds("box", "a:running", "b:running"), verdicts).text(); got != c.want {
			t.Errorf("%s, %+v: got %q, want %q", c.policy, c.verdict, got, c.want)
		}
	}
}

func TestPlanANewImageReplacesTheContainer(t *testing.T) {
	p := podOf(corev1.RestartPolicyNever, false)
	st := holds("box", "a:running", "b:running")
	for i, name := range []string{"b", "a"} {
		st.Containers[i].Annotations = map[string]string{annotationHash: ContainerHash(&corev1.Container{Name: name, Image: "v1"})}
	}
	p.Spec.Containers[0].Image, p.Spec.Containers[1].Image = "v2", "v1"
	none := func(string) (Verdict, bool) { return Verdict{}, false }
	if got, want := MakePlan(p, st, none).text(), "kill a (Container a definition changed, will be restarted), start a"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPhase(t *testing.T) {
	const always, onFailure, never = corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever
	for _, c := range []struct {
		policy   corev1.RestartPolicy
		inits    bool
		state    string
		terminal bool
		want     corev1.PodPhase
	}{
		{always, false, "", false, corev1.PodPending},
		{always, false, "box a:running", false, corev1.PodPending},
		{always, false, "box a:running b:running", false, corev1.PodRunning},
		{always, false, "box a:exit1 b:running", false, corev1.PodRunning},
		{always, false, "box a:exit0 b:exit0", false, corev1.PodRunning},
		{onFailure, false, "box a:exit0 b:exit0", false, corev1.PodSucceeded},
		{onFailure, false, "box a:exit0 b:exit1", false, corev1.PodRunning},
		{never, false, "box a:exit0 b:exit1", false, corev1.PodFailed},
		{never, false, "box a:exit0 b:exit0", false, corev1.PodSucceeded},
		{never, false, "box a:exit1 b:running", false, corev1.PodRunning},
		{always, true, "box i1:running", false, corev1.PodPending},
		{always, true, "box i1:exit1", false, corev1.PodPending},
		{never, true, "box i1:exit1", false, corev1.PodFailed},
		{never, true, "box i1:exit0 side:exit0 i2:exit0 a:exit0 b:exit0", false, corev1.PodSucceeded},
		// on its way out
		{always, false, "oldbox a:exit0 b:exit0", true, corev1.PodSucceeded},
		{always, false, "oldbox a:exit0 b:exit143", true, corev1.PodFailed},
		{always, false, "", true, corev1.PodFailed},
	} {
		in := Input{
			Pod: podOf(c.policy, c.inits), State: holds(strings.Fields(c.state)...), Terminal: c.terminal, Runtime: "fake",
			Probes: func(string) (Verdict, bool) { return Verdict{Started: true, Ready: true}, true },
		}
		if got := MakeStatus(in).Phase; got != c.want {
			t.Errorf("%s, %q, terminal %v: got %s, want %s", c.policy, c.state, c.terminal, got, c.want)
		}
	}
}

func TestStatusKeepsWhatOthersWriteAndFinalPhases(t *testing.T) {
	in := Input{
		Pod: podOf(corev1.RestartPolicyAlways, false), State: holds("box", "a:running", "b:running"),
		Probes: func(string) (Verdict, bool) { return Verdict{Started: true, Ready: true}, true },
	}
	in.Pod.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.com/gate"}}
	s := MakeStatus(in)
	if ready, message := conditionOf(s, corev1.PodReady); ready || !strings.Contains(message, `"example.com/gate" does not exist`) {
		t.Errorf("ready is %v: %s", ready, message)
	}
	s.Conditions = append(s.Conditions, corev1.PodCondition{Type: "example.com/gate", Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
	in.Old = s
	s = MakeStatus(in)
	if ready, message := conditionOf(s, corev1.PodReady); !ready {
		t.Errorf("not ready: %s", message)
	}
	if kept, _ := conditionOf(s, "example.com/gate"); !kept {
		t.Error("the condition of somebody else is gone")
	}
	s.Phase = corev1.PodFailed
	in.Old = s
	if got := MakeStatus(in).Phase; got != corev1.PodFailed {
		t.Errorf("a final phase became %s", got)
	}
}

func conditionOf(s corev1.PodStatus, kind corev1.PodConditionType) (bool, string) {
	for _, c := range s.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue, c.Message
		}
	}
	return false, "there is none"
}
