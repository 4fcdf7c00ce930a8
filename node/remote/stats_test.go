package remote

import (
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"svcplane/measure"
)

// TestCompose: containers are their pod's, one that ended counts for nothing, and a pod received what the node's end of its link has sent.
func TestCompose(t *testing.T) {
	measured := func(id string) *runtimeapi.ContainerStats {
		return &runtimeapi.ContainerStats{Attributes: &runtimeapi.ContainerAttributes{Id: id}}
	}
	all := compose(
		[]*runtimeapi.PodSandbox{{Id: "0123456789abcdef"}, {Id: "host"}},
		[]*runtimeapi.Container{{Id: "a", PodSandboxId: "0123456789abcdef"}, {Id: "b", PodSandboxId: "host"}},
		[]*runtimeapi.ContainerStats{measured("a"), measured("b"), measured("ended")},
		[]measure.Link{{Name: "sp0123456789ab", Received: 1, Sent: 2, ReceiveErrors: 3, SendErrors: 4}, {Name: "eth0", Received: 9}},
		time.Now())
	if len(all) != 2 || len(all[0].Linux.Containers) != 1 || all[0].Linux.Containers[0].Attributes.Id != "a" || len(all[1].Linux.Containers) != 1 {
		t.Fatalf("%v", all)
	}
	link := all[0].Linux.Network.GetDefaultInterface()
	if link.GetRxBytes().GetValue() != 2 || link.GetTxBytes().GetValue() != 1 || link.GetRxErrors().GetValue() != 4 || link.GetTxErrors().GetValue() != 3 {
		t.Errorf("the pod's link: %v", link)
	}
	if all[1].Linux.Network != nil {
		t.Error("a pod in the node's network has a link")
	}
}

func TestCheckEndpoint(t *testing.T) {
	for endpoint, good := range map[string]bool{
		"unix:///run/containerd/containerd.sock": true,
		"/run/containerd/containerd.sock":        false,
		"unix://run/containerd.sock":             false,
		"tcp://127.0.0.1:1":                      false,
	} {
		if err := CheckEndpoint(endpoint); (err == nil) != good {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}
