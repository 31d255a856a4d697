using System.Globalization;
using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// What the products of one CUDA stream share: a handle on cuBLASLt, a workspace, and a plan per product that has been met. The first
/// call of a product makes its plan (and may time algorithms, which waits for the device); later ones find it and enqueue.
/// </summary>
/// <remarks>A graph captured from the stream keeps using this workspace: launch it on the same stream, and not after the stream is gone.</remarks>
internal sealed unsafe class MatmulPlans : IDisposable
{
    /// <summary>What NVIDIA recommends on Hopper; algorithms that want more are not offered.</summary>
    public const int WorkspaceBytes = 32 << 20;

    private const int Repeats = 5, LaunchesPerRepeat = 4;

    private static readonly ConditionalWeakTable<CudaStream, MatmulPlans> s_plans = [];
    private static readonly Lock s_gate = new();
    private static readonly Dictionary<(string? Directory, string Machine), AlgorithmCache> s_caches = [];

    private readonly CudaStream _stream;
    private readonly CublasLtLibrary _library;
    private readonly Arena _workspace;
    private readonly nint _workspaceAddress;
    private readonly Dictionary<CublasLtMatmulKey, CublasLtMatmul> _plans = [];

    private MatmulPlans(CudaStream stream)
    {
        var opened = NativeLibraries.OpenNamed("cublasLt");
        if (opened.Handle == 0)
        {
            throw new NotSupportedException(
                $"cuBLASLt: {opened.NameOrReason}; install libcublas of CUDA 12 or 13, or set Z1_CUBLASLT to the path of libcublasLt.so");
        }

        _stream = stream;
        stream.Device.Context.MakeCurrent();
        _workspace = new Arena("cuBLASLt workspace", stream.Device) { Zeroed = false };
        var bytes = _workspace.Declare<byte>(WorkspaceBytes);
        _workspace.Allocate();
        _workspaceAddress = Matmul.AddressOf(stream, bytes);
        try
        {
            _library = new CublasLtLibrary(stream.Device.Context);
        }
        catch
        {
            _workspace.Dispose();
            throw;
        }
    }

    /// <summary>Plans that exist.</summary>
    public int Count => _plans.Count;

    /// <summary>The plans of a stream; made at its first product and released with it.</summary>
    public static MatmulPlans Of(CudaStream stream)
    {
        if (!s_plans.TryGetValue(stream, out var plans))
        {
            plans = new MatmulPlans(stream);
            s_plans.Add(stream, plans);
            stream.Own(plans);
        }

        return plans;
    }

    /// <summary>Enqueues D = op(A)·op(B) (+ D) (+ bias), times the scales of 8-bit operands.</summary>
    public void Run(in CublasLtMatmulKey key, nint a, nint b, nint d, nint bias, nint scaleA, nint scaleB, bool accumulate)
    {
        _stream.Device.Context.MakeCurrent();
        try
        {
            if (!_plans.TryGetValue(key, out var plan))
            {
                plan = Make(key);
                _plans.Add(key, plan);
            }

            Enqueue(plan, a, b, d, bias, scaleA, scaleB, accumulate ? 1f : 0f);
        }
        catch (CublasLtException e) when (e.Status == (int)CublasStatus.ExecutionFailed && !_stream.IsCapturing)
        {
            _stream.Synchronize();                     // the device's own error says more, and says whether it is sticky
            throw;
        }
    }

    /// <summary>The algorithm of a product that has been run, in words.</summary>
    public string Describe(in CublasLtMatmulKey key) => _plans.TryGetValue(key, out var plan) ? plan.Algorithm.ToString() : "not met yet";

    /// <inheritdoc/>
    public void Dispose()
    {
        s_plans.Remove(_stream);
        foreach (var plan in _plans.Values)
        {
            plan.Dispose();
        }

        _plans.Clear();
        _library.Dispose();
        _workspace.Dispose();
    }

    private void Enqueue(CublasLtMatmul plan, nint a, nint b, nint d, nint bias, nint scaleA, nint scaleB, float beta)
    {
        var span = _stream.BeginSpan(plan.Label);
        plan.Run(_stream.Value, a, b, d, bias, scaleA, scaleB, beta, _workspaceAddress, WorkspaceBytes);
        _stream.EndSpan(span);
        if (_stream.Synchronous && !_stream.IsCapturing)
        {
            var result = Cuda.cuStreamSynchronize(_stream.Value);
            if (result != Cuda.Success)
            {
                Cuda.Throw(result, $"cublasLtMatmul of {plan.Key}");
            }
        }
    }

    private CublasLtMatmul Make(in CublasLtMatmulKey key)
    {
        var tuning = Matmul.Tuning;
        var plan = new CublasLtMatmul(_library, key);
        try
        {
            var cache = tuning.Search ? CacheOf(tuning) : null;
            if (cache is not null && cache.TryGet(key, out var known) && TryUse(plan, known))
            {
                return plan;
            }

            var candidates = new CublasLtHeuristic[Math.Clamp(tuning.Candidates, 1, 64)];
            var count = plan.Candidates(WorkspaceBytes, candidates);
            if (count == 0)
            {
                throw new NotSupportedException($"cuBLASLt has no deterministic algorithm for {key}");
            }

            plan.Use(candidates[0]);
            if (cache is not null && !_stream.IsCapturing)
            {
                Search(plan, candidates.AsSpan(0, count), cache, tuning);
            }

            return plan;
        }
        catch
        {
            plan.Dispose();
            throw;
        }
    }

    /// <summary>Times the candidates on random operands of their own: neither the caller's inputs nor its outputs are touched.</summary>
    private void Search(CublasLtMatmul plan, ReadOnlySpan<CublasLtHeuristic> candidates, AlgorithmCache cache, MatmulTuning tuning)
    {
        var key = plan.Key;
        using var arena = new Arena("operands of an algorithm search", _stream.Device) { Zeroed = false };
        var a = arena.Declare<byte>((int)(key.BytesA / key.K), key.K);
        var b = arena.Declare<byte>((int)(key.BytesB / key.K), key.K);
        var d = arena.Declare<byte>((int)(key.BytesD / key.M), key.M);
        var bias = arena.Declare<byte>(key.M, sizeof(float));
        var scales = arena.Declare<float>(2);
        try
        {
            arena.Allocate();
        }
        catch (InsufficientMemoryException)
        {
            tuning.Warning($"cublasLt: no memory to time algorithms for {key}; the library's first guess is used");
            return;
        }

        var fp8 = key.IsFp8;
        FillRandom(a, fp8);
        FillRandom(b, fp8);
        FillRandom(bias, fp8: false);
        _stream.Upload<float>([1f, 1f], scales);
        var (addressA, addressB, addressD) = (Matmul.AddressOf(_stream, a), Matmul.AddressOf(_stream, b), Matmul.AddressOf(_stream, d));
        var addressBias = Matmul.AddressOf(_stream, bias);
        var (scaleA, scaleB) = (Matmul.AddressOf(_stream, scales), Matmul.AddressOf(_stream, scales.Rows(1, 1)));
        using var start = new CudaEvent(_stream.Device, timed: true);
        using var end = new CudaEvent(_stream.Device, timed: true);
        Span<double> times = stackalloc double[Repeats];
        var (best, fastest) = (-1, double.PositiveInfinity);
        for (var i = 0; i < candidates.Length; i++)
        {
            plan.Use(candidates[i]);
            try
            {
                Enqueue(plan, addressA, addressB, addressD, addressBias, scaleA, scaleB, 0f);      // loads its kernel
                for (var repeat = 0; repeat < Repeats; repeat++)
                {
                    _stream.Record(start);
                    for (var launch = 0; launch < LaunchesPerRepeat; launch++)
                    {
                        Enqueue(plan, addressA, addressB, addressD, addressBias, scaleA, scaleB, 0f);
                    }

                    _stream.Record(end);
                    end.Synchronize();
                    times[repeat] = 1e3 * end.MillisecondsSince(start) / LaunchesPerRepeat;
                }
            }
            catch (CublasLtException e) when (e.Status is (int)CublasStatus.NotSupported or (int)CublasStatus.InvalidValue)
            {
                continue;                              // the heuristic offered what the library then refuses: seen with odd alignments
            }

            times.Sort();
            if (times[Repeats / 2] < fastest)
            {
                (best, fastest) = (i, times[Repeats / 2]);
            }
        }

        plan.Use(candidates[Math.Max(best, 0)]);
        if (best >= 0)
        {
            _ = TryUse(plan, cache.Add(key, candidates[best].Algorithm, fastest));     // another rank's, where it was quicker to say so
        }
    }

    /// <summary>Whether the library has the algorithm for this product and the workspace suffices; the plan then uses it.</summary>
    private static bool TryUse(CublasLtMatmul plan, in CublasLtAlgorithm algorithm)
    {
        var fits = plan.TryCheck(algorithm, out var choice) && (long)choice.WorkspaceSize <= WorkspaceBytes;
        if (fits)
        {
            plan.Use(choice);
        }

        return fits;
    }

    /// <summary>Random signs and fractions with a magnitude about 1. Zeros would draw less power, and so run at a higher clock than real
    /// data.</summary>
    private void FillRandom(Tensor<byte> tensor, bool fp8)
    {
        var (rows, columns) = (tensor.Shape[0], tensor.Shape[1]);
        var first = (int)Math.Clamp((1L << 20) / columns, 1, rows);
        var bytes = new byte[(long)first * columns];
        new Random(1).NextBytes(bytes);
        for (var i = 0; i < bytes.Length; i++)
        {
            if (fp8)
            {
                bytes[i] = (byte)((bytes[i] & 0x87) | 0x38);
            }
            else if (i % 2 == 1)
            {
                bytes[i] = (byte)((bytes[i] & 0x80) | 0x3F);       // the upper byte of a bfloat16
            }
        }

        _stream.Upload<byte>(bytes, tensor.Rows(0, first));
        for (var done = first; done < rows;)
        {
            var count = Math.Min(done, rows - done);
            _stream.Copy(tensor.Rows(0, count), tensor.Rows(done, count));
            done += count;
        }
    }

    private AlgorithmCache CacheOf(MatmulTuning tuning)
    {
        int driver;
        Cuda.Check(Cuda.cuDriverGetVersion(&driver));
        var device = _stream.Device;
        var machine = string.Create(
            CultureInfo.InvariantCulture,
            $"{device}, {device.Multiprocessors} multiprocessors, driver {driver}, cuBLASLt {CublasLtLibrary.Version}");
        lock (s_gate)
        {
            var id = (tuning.CacheDirectory, machine);
            if (!s_caches.TryGetValue(id, out var cache))
            {
                cache = s_caches[id] = new AlgorithmCache(tuning.CacheDirectory, machine, tuning.Warning);
            }

            return cache;
        }
    }
}
