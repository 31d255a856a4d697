namespace Z1Coder.Runtime;

/// <summary>A named stretch of a stream's work, from <see cref="CudaStream.Range"/> to Dispose: an NVTX range, and a span of the trace.</summary>
public readonly ref struct CudaRange
{
    private readonly CudaTrace? _trace;
    private readonly int _span;
    private readonly bool _pushed;

    internal CudaRange(CudaStream stream, string name)
    {
        _pushed = Nvtx.IsPresent;
        if (_pushed)
        {
            Nvtx.Push(name);
        }

        if (stream.Trace is { } trace && !stream.IsCapturing)
        {
            _trace = trace;
            _span = trace.Begin(stream, name, isRange: true);
        }
    }

    /// <summary>Ends the range.</summary>
    public void Dispose()
    {
        _trace?.End(_span);
        if (_pushed)
        {
            Nvtx.Pop();
        }
    }
}
