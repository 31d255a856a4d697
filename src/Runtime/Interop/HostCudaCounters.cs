namespace Z1Coder.Runtime;

/// <summary>Counts of hostcuda since the process began: equal in every run of the same work.</summary>
/// <param name="Launches">kernels run, those of graphs included</param>
/// <param name="HostToDevice">bytes copied</param>
/// <param name="DeviceToHost">bytes copied</param>
/// <param name="DeviceToDevice">bytes copied</param>
/// <param name="Set">bytes filled</param>
/// <param name="Allocated">bytes of device memory now</param>
/// <param name="Peak">most bytes of device memory at once</param>
/// <param name="Allocations">allocations of device memory</param>
/// <param name="GraphLaunches">graphs launched</param>
/// <param name="Calls">driver functions called</param>
public readonly record struct HostCudaCounters(
    long Launches,
    long HostToDevice,
    long DeviceToHost,
    long DeviceToDevice,
    long Set,
    long Allocated,
    long Peak,
    long Allocations,
    long GraphLaunches,
    long Calls);
