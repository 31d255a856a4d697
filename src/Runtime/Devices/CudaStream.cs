using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>Work of one device in the order it is enqueued. One thread at a time enqueues.</summary>
/// <remarks>Kernels fail asynchronously: the error is thrown by a later call. Z1_SYNC=1 waits after each launch, so that the exception
/// names the guilty kernel.</remarks>
public sealed unsafe class CudaStream : ComputeStream
{
    private const uint NonBlocking = 1;
    private const int Relaxed = 2;                  // capture mode: kernels may be loaded while a stream captures
    private const int StagingSlots = 4, StagingBytes = 1 << 20;
    private const int Remembered = 8;

    private static readonly bool s_synchronous = Environment.GetEnvironmentVariable("Z1_SYNC") == "1";

    private readonly CudaHandle _handle;
    private readonly nint _stream;
    private readonly CudaKernel?[] _recent = new CudaKernel?[Remembered];
    private readonly PinnedBuffer<byte>?[] _staging = new PinnedBuffer<byte>?[StagingSlots];
    private readonly CudaEvent?[] _staged = new CudaEvent?[StagingSlots];
    private readonly bool _ownsDevice;
    private int _nextStaging;
    private int _enqueued;

    /// <summary>A stream of its own: it does not wait for the default stream.</summary>
    public CudaStream(CudaDevice device)
        : this(device, ownsDevice: false)
    {
    }

    internal CudaStream(CudaDevice device, bool ownsDevice)
    {
        ArgumentNullException.ThrowIfNull(device);
        Device = device;
        _ownsDevice = ownsDevice;
        device.Context.MakeCurrent();
        nint stream;
        Cuda.Check(Cuda.cuStreamCreate(&stream, NonBlocking));
        _handle = new(device.Context, stream, CudaHandleKind.Stream);
        _stream = stream;
        Synchronous = s_synchronous;
    }

    /// <summary>The device.</summary>
    public CudaDevice Device { get; }

    /// <inheritdoc/>
    public override string DeviceName => Device.ToString();

    /// <summary>Whether <see cref="Capture"/> is in progress: work goes into the graph, nothing runs.</summary>
    public bool IsCapturing { get; private set; }

    /// <summary>Kernels launched by this stream, captured ones included once.</summary>
    public long Launches { get; private set; }

    /// <summary>Times launches and copies while it is set.</summary>
    public CudaTrace? Trace { get; set; }

    /// <summary>Waits after each launch. Set by Z1_SYNC=1.</summary>
    internal bool Synchronous { get; set; }

    /// <summary>The CUstream.</summary>
    internal nint Value
    {
        get
        {
            Device.Context.MakeCurrent();
            return _handle.Value;
        }
    }

    /// <summary>Names the work until the range is disposed, for profilers and for <see cref="Trace"/>.</summary>
    public CudaRange Range(string name) => new(this, name);

    /// <summary>Runs a kernel with one struct of parameters.</summary>
    /// <param name="kernel">compiled and loaded at its first launch on a device</param>
    /// <param name="grid">blocks</param>
    /// <param name="block">threads of a block</param>
    /// <param name="parameters">mirrors the struct of the device code field by field</param>
    /// <param name="sharedBytes">dynamic shared memory of a block</param>
    /// <exception cref="CudaException">the launch is refused, or earlier work has failed</exception>
    public void Launch<TParams>(CudaKernel kernel, CudaGrid grid, int block, in TParams parameters, int sharedBytes = 0)
        where TParams : unmanaged
    {
        ArgumentNullException.ThrowIfNull(kernel);
        Device.Context.MakeCurrent();
        var function = kernel.On(Device);
        if (function.ParameterBytes >= 0 && function.ParameterBytes != sizeof(TParams))
        {
            ThrowParameters(kernel, function.ParameterBytes, typeof(TParams).Name, sizeof(TParams));
        }

        function.AllowShared(sharedBytes, kernel);
        var span = BeginSpan(kernel.Label);
        int result;
        fixed (TParams* pointer = &parameters)
        {
            void* argument = pointer;
            result = Cuda.cuLaunchKernel(
                function.Value, (uint)grid.X, (uint)grid.Y, (uint)grid.Z, (uint)block, 1, 1, (uint)sharedBytes, _stream, &argument, null);
        }

        if (result != Cuda.Success)
        {
            ThrowLaunch(result, kernel, grid, block, sharedBytes);
        }

        EndSpan(span);
        _recent[_enqueued++ & (Remembered - 1)] = kernel;
        Launches++;
        if (Synchronous && !IsCapturing)
        {
            result = Cuda.cuStreamSynchronize(_stream);
            if (result != Cuda.Success)
            {
                ThrowKernel(result, kernel, grid, block, sharedBytes);
            }
        }
    }

    /// <summary>to = from. <paramref name="from"/> may be reused at once: it is copied to pinned memory first.</summary>
    /// <exception cref="InvalidOperationException">the stream captures; a graph copies from a <see cref="PinnedBuffer{T}"/></exception>
    public void Upload<T>(ReadOnlySpan<T> from, Tensor<T> to)
        where T : unmanaged
    {
        TensorCopy.CheckCount(from.Length, to.Count);
        Refuse(IsCapturing, "Upload of a span");
        var target = (nint)Own(to);
        var span = BeginSpan("copy to device");
        for (var bytes = MemoryMarshal.AsBytes(from); bytes.Length > 0;)
        {
            var count = Math.Min(bytes.Length, StagingBytes);
            var slot = Stage(out var staged);
            bytes[..count].CopyTo(slot.Span);
            Check(Cuda.cuMemcpyHtoDAsync_v2(target, slot.Pointer, (nuint)count, _stream), "cuMemcpyHtoDAsync(to, staging, bytes, stream)");
            Check(Cuda.cuEventRecord(staged.Value, _stream), "cuEventRecord(staged, stream)");
            bytes = bytes[count..];
            target += count;
        }

        EndSpan(span);
    }

    /// <summary>to = from, without staging; <paramref name="from"/> belongs to the copy until it has run. Can be captured: a replay copies
    /// what the buffer holds then.</summary>
    public void Upload<T>(PinnedBuffer<T> from, Tensor<T> to)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(from);
        if (to.Count > from.Count)
        {
            TensorCopy.CheckCount(from.Count, to.Count);
        }

        var span = BeginSpan("copy to device");
        Check(Cuda.cuMemcpyHtoDAsync_v2((nint)Own(to), from.Pointer, (nuint)to.Bytes, _stream), "cuMemcpyHtoDAsync(to, pinned, bytes, stream)");
        EndSpan(span);
    }

    /// <summary>to = from, after all work queued before; returns when <paramref name="to"/> holds the data.</summary>
    public void Download<T>(Tensor<T> from, Span<T> to)
        where T : unmanaged
    {
        TensorCopy.CheckCount(to.Length, from.Count);
        Refuse(IsCapturing, "Download to a span");
        if (to.IsEmpty)
        {
            return;
        }

        var source = (nint)Own(from);
        var span = BeginSpan("copy to host");
        fixed (T* target = to)
        {
            Check(Cuda.cuMemcpyDtoHAsync_v2(target, source, (nuint)from.Bytes, _stream), "cuMemcpyDtoHAsync(to, from, bytes, stream)");
            EndSpan(span);
            Synchronize();
        }
    }

    /// <summary>to = from, queued; <paramref name="to"/> holds the data once an event recorded after it is done.</summary>
    public void Download<T>(Tensor<T> from, PinnedBuffer<T> to)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(to);
        if (from.Count > to.Count)
        {
            TensorCopy.CheckCount(to.Count, from.Count);
        }

        var span = BeginSpan("copy to host");
        Check(Cuda.cuMemcpyDtoHAsync_v2(to.Pointer, (nint)Own(from), (nuint)from.Bytes, _stream), "cuMemcpyDtoHAsync(pinned, from, bytes, stream)");
        EndSpan(span);
    }

    /// <summary>to = from, queued; <paramref name="to"/> is in an arena of <see cref="CreateHostArena"/>.</summary>
    internal void CopyToHost<T>(Tensor<T> from, Tensor<T> to)
        where T : unmanaged
    {
        TensorCopy.CheckCount(from.Count, to.Count);
        var span = BeginSpan("copy to host");
        Check(Cuda.cuMemcpyDtoHAsync_v2(to.HostPointer, (nint)Own(from), (nuint)from.Bytes, _stream), "cuMemcpyDtoHAsync(to, from, bytes, stream)");
        EndSpan(span);
    }

    /// <summary>to = from, queued; <paramref name="from"/> is in an arena of <see cref="CreateHostArena"/>.</summary>
    internal void CopyFromHost<T>(Tensor<T> from, Tensor<T> to)
        where T : unmanaged
    {
        TensorCopy.CheckCount(from.Count, to.Count);
        var span = BeginSpan("copy to device");
        Check(Cuda.cuMemcpyHtoDAsync_v2((nint)Own(to), from.HostPointer, (nuint)to.Bytes, _stream), "cuMemcpyHtoDAsync(to, from, bytes, stream)");
        EndSpan(span);
    }

    /// <summary>to = from, both on this device; they must not overlap.</summary>
    public void Copy<T>(Tensor<T> from, Tensor<T> to)
        where T : unmanaged
    {
        TensorCopy.CheckCount(from.Count, to.Count);
        if (from.Count > 0)
        {
            var span = BeginSpan("copy on device");
            Check(Cuda.cuMemcpyDtoDAsync_v2((nint)Own(to), (nint)Own(from), (nuint)from.Bytes, _stream), "cuMemcpyDtoDAsync(to, from, bytes, stream)");
            EndSpan(span);
        }
    }

    /// <summary>Sets every byte.</summary>
    public void Fill<T>(Tensor<T> to, byte value)
        where T : unmanaged
    {
        if (to.Count > 0)
        {
            var span = BeginSpan("fill");
            Check(Cuda.cuMemsetD8Async((nint)Own(to), value, (nuint)to.Bytes, _stream), "cuMemsetD8Async(to, value, bytes, stream)");
            EndSpan(span);
        }
    }

    /// <summary>Marks this point of the stream in <paramref name="e"/>.</summary>
    public void Record(CudaEvent e)
    {
        ArgumentNullException.ThrowIfNull(e);
        Device.Context.MakeCurrent();
        Check(Cuda.cuEventRecord(e.Value, _stream), "cuEventRecord(event, stream)");
    }

    /// <summary>Later work of this stream waits for the last record of <paramref name="e"/>; the caller does not.</summary>
    public void Wait(CudaEvent e)
    {
        ArgumentNullException.ThrowIfNull(e);
        Device.Context.MakeCurrent();
        Check(Cuda.cuStreamWaitEvent(_stream, e.Value, 0), "cuStreamWaitEvent(stream, event, 0)");
    }

    /// <summary>The work that <paramref name="body"/> enqueues on this stream, and on streams that wait for it, as a graph. Nothing runs
    /// before <see cref="Launch(CudaGraph)"/>.</summary>
    public CudaGraph Capture(Action body)
    {
        ArgumentNullException.ThrowIfNull(body);
        Refuse(IsCapturing, "Capture");
        Device.Context.MakeCurrent();
        Check(Cuda.cuStreamBeginCapture_v2(_stream, Relaxed), "cuStreamBeginCapture(stream, relaxed)");
        IsCapturing = true;
        nint graph = 0;
        var failed = true;
        try
        {
            body();
            failed = false;
        }
        finally
        {
            IsCapturing = false;
            var result = Cuda.cuStreamEndCapture(_stream, &graph);
            if (failed && result == Cuda.Success)
            {
                _ = Cuda.cuGraphDestroy(graph);
            }
            else if (!failed)
            {
                Check(result, "cuStreamEndCapture(stream, &graph)");
            }
        }

        try
        {
            return new CudaGraph(Device, graph);
        }
        finally
        {
            _ = Cuda.cuGraphDestroy(graph);
        }
    }

    /// <summary>Runs a captured graph in the order of this stream.</summary>
    public void Launch(CudaGraph graph)
    {
        ArgumentNullException.ThrowIfNull(graph);
        Device.Context.MakeCurrent();
        var span = BeginSpan("graph");
        Check(Cuda.cuGraphLaunch(graph.Value, _stream), "cuGraphLaunch(graph, stream)");
        EndSpan(span);
        if (Synchronous && !IsCapturing)
        {
            Synchronize();
        }
    }

    /// <summary>Waits until all work has finished; throws its first error.</summary>
    public override void Synchronize()
    {
        Device.Context.MakeCurrent();
        Check(Cuda.cuStreamSynchronize(_stream), "cuStreamSynchronize(stream)");
    }

    /// <inheritdoc/>
    public override Arena CreateArena(string name) => new(name, Device) { Stream = this };

    /// <inheritdoc/>
    public override Arena CreateHostArena(string name) => Arena.Pinned(name, Device);

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (!disposing || _handle.IsClosed)
        {
            return;
        }

        // Staging memory and scratch must not go while work uses them. The device may be disposed: this stream keeps its context.
        nint popped;
        if (Cuda.cuCtxPushCurrent_v2(Device.Context.Value) == Cuda.Success)
        {
            _ = Cuda.cuStreamSynchronize(_stream);
            _ = Cuda.cuCtxPopCurrent_v2(&popped);
        }

        ReleaseOwned();
        foreach (var e in _staged)
        {
            e?.Dispose();
        }

        foreach (var buffer in _staging)
        {
            buffer?.Dispose();
        }

        _handle.Dispose();
        if (_ownsDevice)
        {
            Device.Dispose();
        }
    }

    [DoesNotReturn]
    private static void ThrowParameters(CudaKernel kernel, int device, string type, int host) => throw new InvalidOperationException(
        $"{kernel} takes {device} bytes of parameters, {type} has {host}: the struct in {kernel.Stem}.Cuda.cs does not mirror {kernel.Stem}.cu");

    [DoesNotReturn]
    private static void ThrowKernel(int result, CudaKernel kernel, CudaGrid grid, int block, int sharedBytes) => Cuda.Throw(
        result, $"kernel {kernel} (grid {grid.X}, {grid.Y}, {grid.Z}; block {block}; {sharedBytes} bytes shared)");

    private static void Refuse(bool capturing, string what)
    {
        if (capturing)
        {
            throw new InvalidOperationException($"{what} is not possible while the stream captures");
        }
    }

    /// <summary>A refused launch is this kernel's; a sticky code belongs to earlier work.</summary>
    [DoesNotReturn]
    private void ThrowLaunch(int result, CudaKernel kernel, CudaGrid grid, int block, int sharedBytes)
    {
        if (CudaException.IsStickyCode(result) && _enqueued > 0)
        {
            Check(result, $"work before the launch of {kernel}");
        }

        Cuda.Throw(result, $"launch of {kernel} (grid {grid.X}, {grid.Y}, {grid.Z}; block {block}; {sharedBytes} bytes shared)");
    }

    /// <summary>Begins a span of <see cref="Trace"/>, for work that a library enqueues; -1 when nothing is traced.</summary>
    internal int BeginSpan(string name) => Trace is { } trace && !IsCapturing ? trace.Begin(this, name, isRange: false) : -1;

    /// <summary>Ends a span.</summary>
    internal void EndSpan(int span)
    {
        if (span >= 0)
        {
            Trace!.End(span);
        }
    }

    private void Check(int result, string expression)
    {
        if (result != Cuda.Success)
        {
            Cuda.Throw(result, CudaException.IsStickyCode(result) ? expression + Suspects() : expression);
        }
    }

    /// <summary>What ran last: one of these has failed.</summary>
    private string Suspects()
    {
        var names = new List<string>();
        for (var i = 1; i <= Math.Min(_enqueued, Remembered); i++)
        {
            names.Add(_recent[(_enqueued - i) & (Remembered - 1)]!.Entry);
        }

        return names.Count == 0 ? "" : $" (launched last: {string.Join(", ", names.Distinct())}; Z1_SYNC=1 names the guilty kernel)";
    }

    private T* Own<T>(Tensor<T> tensor)
        where T : unmanaged
    {
        if (!ReferenceEquals(tensor.Device, Device))
        {
            throw new ArgumentException($"the tensor of arena '{tensor.ArenaName}' is not on {Device}");
        }

        Device.Context.MakeCurrent();
        return tensor.Pointer;
    }

    private PinnedBuffer<byte> Stage(out CudaEvent staged)
    {
        var slot = _nextStaging;
        _nextStaging = (slot + 1) % StagingSlots;
        if (_staging[slot] is null)
        {
            _staging[slot] = new(Device, StagingBytes);
            _staged[slot] = new(Device);
        }

        staged = _staged[slot]!;
        staged.Synchronize();                           // until its last copy has left the buffer
        return _staging[slot]!;
    }
}
