namespace Z1Coder.Runtime;

/// <summary>Work captured from a stream, launched as one. It keeps the addresses and the parameters of its capture.</summary>
public sealed unsafe class CudaGraph : IDisposable
{
    private readonly CudaHandle _handle;

    internal CudaGraph(CudaDevice device, nint graph)
    {
        Device = device;
        nint exec;
        nuint nodes;
        Cuda.Check(Cuda.cuGraphGetNodes(graph, null, &nodes));
        Cuda.Check(Cuda.cuGraphInstantiateWithFlags(&exec, graph, 0));
        _handle = new(device.Context, exec, CudaHandleKind.Graph);
        Nodes = (int)nodes;
    }

    /// <summary>The device of the captured stream.</summary>
    public CudaDevice Device { get; }

    /// <summary>Launches, copies and fills captured.</summary>
    public int Nodes { get; }

    internal nint Value => _handle.Value;

    /// <summary>Destroys the graph; a replay in progress finishes.</summary>
    public void Dispose() => _handle.Dispose();
}
