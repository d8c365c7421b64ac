package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nodeService mounts a volume once per node (stage) and binds it into each pod (publish), so that two pods of one claim
// share one file system instead of corrupting it through two loop devices.
type nodeService struct {
	csi.UnimplementedNodeServer
	volumes volumes
	id      string
}

func (n nodeService) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: n.id}, nil
}

func (nodeService) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	answer := &csi.NodeGetCapabilitiesResponse{}
	for _, capability := range []csi.NodeServiceCapability_RPC_Type{
		csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
		csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
		csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
		csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: capability}}})
	}
	return answer, nil
}

func (n nodeService) NodeStageVolume(
	_ context.Context, request *csi.NodeStageVolumeRequest,
) (*csi.NodeStageVolumeResponse, error) {
	target := request.GetStagingTargetPath()
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, err
	}
	if isMounted(target) {
		return &csi.NodeStageVolumeResponse{}, nil
	}
	if err := n.volumes.mount(request.GetVolumeId(), target); err != nil {
		return nil, err
	}
	// The image may have grown while no pod used it; growing to the size it has is harmless.
	_, err := run("xfs_growfs", target)
	return &csi.NodeStageVolumeResponse{}, err
}

func (nodeService) NodeUnstageVolume(
	_ context.Context, request *csi.NodeUnstageVolumeRequest,
) (*csi.NodeUnstageVolumeResponse, error) {
	return &csi.NodeUnstageVolumeResponse{}, unmount(request.GetStagingTargetPath())
}

func (nodeService) NodePublishVolume(
	_ context.Context, request *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	target := request.GetTargetPath()
	if err := os.MkdirAll(target, 0o750); err != nil {
		return nil, err
	}
	if isMounted(target) {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	if _, err := run("mount", "--bind", request.GetStagingTargetPath(), target); err != nil {
		return nil, err
	}
	if request.GetReadonly() {
		if _, err := run("mount", "-o", "remount,bind,ro", target); err != nil {
			return nil, errors.Join(err, unmount(target))
		}
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

func (nodeService) NodeUnpublishVolume(
	_ context.Context, request *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	target := request.GetTargetPath()
	if err := unmount(target); err != nil {
		return nil, err
	}
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func (n nodeService) NodeExpandVolume(
	_ context.Context, request *csi.NodeExpandVolumeRequest,
) (*csi.NodeExpandVolumeResponse, error) {
	path := request.GetVolumePath()
	device, err := run("findmnt", "--noheadings", "--first-only", "--output", "SOURCE", "--mountpoint", path)
	if err != nil {
		return nil, err
	}
	if len(device) > 0 && device[len(device)-1] == ']' { // a bind mount may show as DEVICE[/folder]
		return nil, status.Errorf(codes.Internal, "%s is not the root of a volume: %s", path, device)
	}
	if _, err := run("losetup", "--set-capacity", device); err != nil {
		return nil, err
	}
	if _, err := run("xfs_growfs", path); err != nil {
		return nil, err
	}
	size, err := n.volumes.size(request.GetVolumeId())
	return &csi.NodeExpandVolumeResponse{CapacityBytes: size}, err
}

func (nodeService) NodeGetVolumeStats(
	_ context.Context, request *csi.NodeGetVolumeStatsRequest,
) (*csi.NodeGetVolumeStatsResponse, error) {
	if !isMounted(request.GetVolumePath()) {
		return nil, status.Errorf(codes.NotFound, "nothing is mounted at %s", request.GetVolumePath())
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(request.GetVolumePath(), &fs); err != nil {
		return nil, err
	}
	block := fs.Bsize
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: int64(fs.Blocks) * block, Available: int64(fs.Bavail) * block,
			Used: int64(fs.Blocks-fs.Bfree) * block},
		{Unit: csi.VolumeUsage_INODES, Total: int64(fs.Files), Available: int64(fs.Ffree),
			Used: int64(fs.Files - fs.Ffree)},
	}}, nil
}

func isMounted(path string) bool { return exec.Command("mountpoint", "--quiet", path).Run() == nil }

func unmount(path string) error {
	if !isMounted(path) {
		return nil
	}
	_, err := run("umount", path)
	return err
}
