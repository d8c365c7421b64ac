// Command loopcsi is a CSI driver for one machine: every volume is an XFS file system in an image file on a loop device,
// so sizes, "no space left on device" and online expansion are real.
//
// XFS, not ext4: growing a mounted ext4 needs CAP_SYS_RESOURCE, which root in a sandbox may lack.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func main() {
	name := flag.String("name", "", "driver name")
	node := flag.String("node", "", "node id")
	data := flag.String("data", "", "folder for the image files")
	socket := flag.String("socket", "", "socket of the CSI services")
	registrationSocket := flag.String("registration", "", "socket of the kubelet's plugin registration")
	flag.Parse()

	store := volumes{folder: *data}
	if err := os.MkdirAll(store.folder, 0o700); err != nil {
		log.Fatal(err)
	}
	driver := grpc.NewServer()
	csi.RegisterIdentityServer(driver, identity{name: *name})
	csi.RegisterControllerServer(driver, controller{volumes: store})
	csi.RegisterNodeServer(driver, nodeService{volumes: store, id: *node})
	registrar := grpc.NewServer()
	registration.RegisterRegistrationServer(registrar, kubeletRegistration{name: *name, socket: *socket})

	served := make(chan error)
	go func() { served <- driver.Serve(listen(*socket)) }()
	go func() { served <- registrar.Serve(listen(*registrationSocket)) }()
	log.Fatal(<-served)
}

func listen(path string) net.Listener {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		log.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

// kubeletRegistration answers the kubelet directly, which makes the node-driver-registrar sidecar unnecessary.
type kubeletRegistration struct {
	registration.UnsafeRegistrationServer
	name, socket string
}

func (r kubeletRegistration) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: r.name, Endpoint: r.socket, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r kubeletRegistration) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	log.Printf("registered with the kubelet: %t %s", status.PluginRegistered, status.Error)
	return &registration.RegistrationStatusResponse{}, nil
}
