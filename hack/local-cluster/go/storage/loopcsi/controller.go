package main

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// minimumBytes is the smallest file system that mkfs.xfs makes; smaller requests get this much.
const minimumBytes = 300 << 20

type controller struct {
	csi.UnimplementedControllerServer
	volumes volumes
}

func (controller) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	answer := &csi.ControllerGetCapabilitiesResponse{}
	for _, capability := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
		csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	} {
		answer.Capabilities = append(answer.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: capability}}})
	}
	return answer, nil
}

func (c controller) CreateVolume(
	_ context.Context, request *csi.CreateVolumeRequest,
) (*csi.CreateVolumeResponse, error) {
	if err := supported(request.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	size, err := wantedSize(request.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	got, err := c.volumes.create(request.GetName(), size)
	if err != nil {
		return nil, err
	}
	if limit := request.GetCapacityRange().GetLimitBytes(); got < size || (limit > 0 && got > limit) {
		return nil, status.Errorf(codes.AlreadyExists, "volume %s exists with %d bytes", request.GetName(), got)
	}
	return &csi.CreateVolumeResponse{Volume: &csi.Volume{
		VolumeId: request.GetName(), CapacityBytes: got, VolumeContext: request.GetParameters()}}, nil
}

func (c controller) DeleteVolume(
	_ context.Context, request *csi.DeleteVolumeRequest,
) (*csi.DeleteVolumeResponse, error) {
	return &csi.DeleteVolumeResponse{}, c.volumes.remove(request.GetVolumeId())
}

func (c controller) ValidateVolumeCapabilities(
	_ context.Context, request *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if _, err := c.volumes.size(request.GetVolumeId()); err != nil {
		return nil, err
	}
	if err := supported(request.GetVolumeCapabilities()); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{
		Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
			VolumeCapabilities: request.GetVolumeCapabilities()}}, nil
}

func (c controller) ControllerExpandVolume(
	_ context.Context, request *csi.ControllerExpandVolumeRequest,
) (*csi.ControllerExpandVolumeResponse, error) {
	size, err := wantedSize(request.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	got, err := c.volumes.grow(request.GetVolumeId(), size)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: got, NodeExpansionRequired: true}, nil
}

func wantedSize(wanted *csi.CapacityRange) (int64, error) {
	size := max(wanted.GetRequiredBytes(), minimumBytes)
	if limit := wanted.GetLimitBytes(); limit > 0 && size > limit {
		return 0, status.Errorf(codes.OutOfRange, "a volume has at least %d bytes; the limit is %d", size, limit)
	}
	return size, nil
}

// supported says no to raw block volumes and to access from several nodes.
func supported(capabilities []*csi.VolumeCapability) error {
	for _, capability := range capabilities {
		if capability.GetBlock() != nil {
			return status.Error(codes.InvalidArgument, "raw block volumes are not supported")
		}
		switch capability.GetAccessMode().GetMode() {
		case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY,
			csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
			csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
			return status.Error(codes.InvalidArgument, "volumes can be used on one node only: ask for ReadWriteOnce")
		}
	}
	return nil
}
