using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// What this machine gives at best, measured here and now with the stream's workers: the denominators of "% of roof" and of MFU.
/// Other load on the machine lowers them.
/// </summary>
/// <param name="CopyBytesPerSecond">bytes read plus bytes written per second, copying memory far larger than the caches</param>
/// <param name="ReadBytesPerSecond">bytes per second, reading such memory once</param>
/// <param name="FloatGemmFlopsPerSecond">of the best fp32 matrix product tried</param>
/// <param name="BFloat16GemmFlopsPerSecond">of the best bf16 matrix product tried</param>
public sealed partial record Roofs(
    double CopyBytesPerSecond, double ReadBytesPerSecond, double FloatGemmFlopsPerSecond, double BFloat16GemmFlopsPerSecond)
{
    /// <summary>The GEMM roof for elements of type T, in floating-point operations per second.</summary>
    public double GemmFlopsPerSecond<T>()
        where T : unmanaged =>
        typeof(T) == typeof(BFloat16) ? BFloat16GemmFlopsPerSecond : FloatGemmFlopsPerSecond;

    /// <summary>Measures; the best of several runs each, on random data.</summary>
    /// <param name="stream">whose workers, or whose device, take part</param>
    /// <param name="quick">about a third of a second and 64 MiB; otherwise some three seconds and 512 MiB</param>
    public static Roofs Measure(ComputeStream stream, bool quick) => stream switch
    {
        CpuStream cpu => MeasureCpu(cpu, quick),
        CudaStream cuda => MeasureCuda(cuda, quick),
        _ => throw new NotSupportedException($"no roofs for a {stream.GetType().Name}"),
    };

    /// <summary>Only the GEMM roof for elements of type T, in floating-point operations per second, as <see cref="Measure"/> does quickly: what
    /// MFU is a share of, and all that a run need know before its first step.</summary>
    /// <param name="stream">whose workers, or whose device, take part</param>
    /// <exception cref="NotSupportedException">fp32 on a device, where it is not a roof of anything</exception>
    public static double MeasureGemm<T>(ComputeStream stream)
        where T : unmanaged => stream switch
        {
            CpuStream cpu => Gemm<T>(cpu, QuickSeconds),
            CudaStream cuda when typeof(T) == typeof(BFloat16) => GemmCuda(cuda, quick: true),
            _ => throw new NotSupportedException($"no roof of {typeof(T).Name} for a {stream.GetType().Name}"),
        };

    private static Roofs MeasureCpu(CpuStream stream, bool quick)
    {
        var seconds = quick ? QuickSeconds : 0.5;
        var arena = new Arena("roofs");
        var elements = (quick ? 8 : 64) << 20;
        var (from, to) = (arena.Declare<float>(elements), arena.Declare<float>(elements));
        using (arena)
        {
            arena.Allocate();
            Fill(from);
            var copy = Best(seconds, () => stream.For(elements / Block, 4, new CopyJob(from, to)));
            var read = ReadRate<float>(stream, [from], passes: 8);
            return new(2.0 * from.Bytes / copy, read, Gemm<float>(stream, seconds), Gemm<BFloat16>(stream, seconds));
        }
    }

    /// <summary>
    /// Bytes per second of reading <paramref name="tensors"/> once, every worker a long part of each: the floor of work that must read
    /// them. The best of <paramref name="passes"/> passes of either order tried. What neighbours of a virtual machine leave of the memory's
    /// rate changes within seconds: measure next to the work that is compared.
    /// </summary>
    /// <param name="stream">whose workers take part</param>
    /// <param name="tensors">together far larger than the caches; of each, what is left over after whole kilobytes is not read</param>
    /// <param name="passes">times each order is tried</param>
    public static double ReadRate<T>(CpuStream stream, ReadOnlySpan<Tensor<T>> tensors, int passes)
        where T : unmanaged
    {
        var best = double.MaxValue;
        long bytes = 0;
        for (var pass = 0; pass < 2 * passes; pass++)
        {
            var start = Stopwatch.GetTimestamp();
            bytes = 0;
            foreach (var tensor in tensors)
            {
                var items = (int)(tensor.Bytes / Item);
                var parts = stream.Workers * (int)Math.Max(1, tensor.Bytes / (stream.Workers * BytesPerPart));
                stream.For(items, (items + parts - 1) / parts, new ReadJob<T>(tensor, fourRuns: pass % 2 == 1));
                bytes += (long)items * Item;
            }

            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        return bytes / best;
    }

    /// <summary>
    /// Floating-point operations per second of fp32 fused multiply-adds whose operands stay in registers, a register's lanes at a time,
    /// two operations each: the floor of products that widen to fp32. The best of <paramref name="passes"/> passes.
    /// </summary>
    /// <param name="stream">whose workers take part</param>
    /// <param name="passes">times it is tried, less than a millisecond each</param>
    public static double FmaRate(CpuStream stream, int passes)
    {
        var best = double.MaxValue;
        for (var pass = 0; pass < passes; pass++)
        {
            var start = Stopwatch.GetTimestamp();
            stream.For(FmaParts * stream.Workers, 1, default(FmaJob));
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        return 2.0 * FmaJob.Width * FmaChains * FmaSteps * FmaParts * stream.Workers / best;
    }

    private const double QuickSeconds = 0.05;      // of one roof
    private const int FmaChains = 12;              // two pipes of four cycles each need eight
    private const int FmaSteps = 20_000;
    private const int FmaParts = 8;                // per worker
    private const int Block = 1 << 16;             // elements
    private const int Item = 1024;                 // bytes that a reading part is counted in
    private const long BytesPerPart = 2L << 20;    // of a part: shorter ones lose up to a third to the start of each

    private static byte s_sink;

    private static double Gemm<T>(CpuStream stream, double seconds)
        where T : unmanaged
    {
        var best = 0.0;
        foreach (var (m, n, k) in new[] { (1024, 256, 1024), (1024, 768, 512) })
        {
            var arena = new Arena("roofs");
            var (x, w, y) = (arena.Declare<T>(m, k), arena.Declare<T>(n, k), arena.Declare<T>(m, n));
            using (arena)
            {
                arena.Allocate();
                Fill(x);
                Fill(w);
                var time = Best(seconds / 2, () => Matmul.Forward(stream, x, w, default, y));
                best = Math.Max(best, Matmul.ForwardCost(m, n, k, 4).Flops / time);
            }
        }

        return best;
    }

    /// <summary>Shortest time of one run, in seconds.</summary>
    private static double Best(double seconds, Action run)
    {
        run();
        var (best, start) = (double.MaxValue, Stopwatch.GetTimestamp());
        for (var i = 0; i < 3 || Stopwatch.GetElapsedTime(start).TotalSeconds < seconds; i++)
        {
            var begin = Stopwatch.GetTimestamp();
            run();
            best = Math.Min(best, Stopwatch.GetElapsedTime(begin).TotalSeconds);
        }

        return best;
    }

    /// <summary>Uniform in (-1, 1): zeros can run faster than real numbers.</summary>
    private static void Fill<T>(Tensor<T> tensor, uint seed = 1)
        where T : unmanaged
    {
        var state = unchecked(0x9E3779B9u * seed);
        HostPieces.Fill(tensor, (_, piece) =>
        {
            for (var i = 0; i < piece.Length; i++)
            {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                Lanes.Set(ref piece[i], 0, (state * (2f / uint.MaxValue)) - 1);
            }
        });
    }

    private readonly struct CopyJob(Tensor<float> from, Tensor<float> to) : ICpuJob
    {
        public void Run(int begin, int end, int worker)
        {
            var (start, count) = (begin * Block, (end - begin) * Block);
            from.Span.Slice(start, count).CopyTo(to.Span.Slice(start, count));
        }
    }

    /// <summary>Reads items begin .. end: straight through, or as four runs side by side, which some memory systems serve better.</summary>
    private readonly struct ReadJob<T>(Tensor<T> from, bool fourRuns) : ICpuJob
        where T : unmanaged
    {
        public void Run(int begin, int end, int worker)
        {
            var (run, elements) = ((nuint)(end - begin) * Item / 4, Item / Unsafe.SizeOf<T>());
            ref var origin = ref MemoryMarshal.GetReference(MemoryMarshal.AsBytes(from.Span.Slice(begin * elements, (end - begin) * elements)));
            var (stride, step) = fourRuns ? (run, (nuint)64) : (64, (nuint)256);
            var (s0, s1, s2, s3) = (Vector512<byte>.Zero, Vector512<byte>.Zero, Vector512<byte>.Zero, Vector512<byte>.Zero);
            for (nuint i = 0, p = 0; i < run; i += 64, p += step)
            {
                s0 ^= Vector512.LoadUnsafe(ref origin, p);
                s1 ^= Vector512.LoadUnsafe(ref origin, p + stride);
                s2 ^= Vector512.LoadUnsafe(ref origin, p + (2 * stride));
                s3 ^= Vector512.LoadUnsafe(ref origin, p + (3 * stride));
            }

            Volatile.Write(ref s_sink, Vector512.Sum(s0 ^ s1 ^ s2 ^ s3));   // or the reads might be left out
        }
    }

    private readonly struct FmaJob : ICpuJob
    {
        /// <summary>Floats of one register.</summary>
        public static int Width => Vector512.IsHardwareAccelerated ? Vector512<float>.Count : Vector256<float>.Count;

        public void Run(int begin, int end, int worker)
        {
            for (var part = begin; part < end; part++)
            {
                var b = 1e-3f * (part + 1);
                if (Vector512.IsHardwareAccelerated)
                {
                    Chains(Vector512.Create(0.999f), Vector512.Create(b));
                }
                else
                {
                    Chains(Vector256.Create(0.999f), Vector256.Create(b));
                }
            }
        }

        /// <summary>Twelve chains s = s·a + b, which stay finite. A leaf: calls behind the loop would put its sums into memory.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private static void Chains(Vector512<float> a, Vector512<float> b)
        {
            var (s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11) = (b, b, b, b, b, b, b, b, b, b, b, b);
            for (var step = 0; step < FmaSteps; step++)
            {
                s0 = Vector512.FusedMultiplyAdd(s0, a, b);
                s1 = Vector512.FusedMultiplyAdd(s1, a, b);
                s2 = Vector512.FusedMultiplyAdd(s2, a, b);
                s3 = Vector512.FusedMultiplyAdd(s3, a, b);
                s4 = Vector512.FusedMultiplyAdd(s4, a, b);
                s5 = Vector512.FusedMultiplyAdd(s5, a, b);
                s6 = Vector512.FusedMultiplyAdd(s6, a, b);
                s7 = Vector512.FusedMultiplyAdd(s7, a, b);
                s8 = Vector512.FusedMultiplyAdd(s8, a, b);
                s9 = Vector512.FusedMultiplyAdd(s9, a, b);
                s10 = Vector512.FusedMultiplyAdd(s10, a, b);
                s11 = Vector512.FusedMultiplyAdd(s11, a, b);
            }

            var sum = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;
            Volatile.Write(ref s_sink, sum.AsByte().GetElement(0));
        }

        /// <summary>As <see cref="Chains(Vector512{float}, Vector512{float})"/>, for sixteen registers of half the width: twice twelve sums would not fit.</summary>
        [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
        private static void Chains(Vector256<float> a, Vector256<float> b)
        {
            var (s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11) = (b, b, b, b, b, b, b, b, b, b, b, b);
            for (var step = 0; step < FmaSteps; step++)
            {
                s0 = Vector256.FusedMultiplyAdd(s0, a, b);
                s1 = Vector256.FusedMultiplyAdd(s1, a, b);
                s2 = Vector256.FusedMultiplyAdd(s2, a, b);
                s3 = Vector256.FusedMultiplyAdd(s3, a, b);
                s4 = Vector256.FusedMultiplyAdd(s4, a, b);
                s5 = Vector256.FusedMultiplyAdd(s5, a, b);
                s6 = Vector256.FusedMultiplyAdd(s6, a, b);
                s7 = Vector256.FusedMultiplyAdd(s7, a, b);
                s8 = Vector256.FusedMultiplyAdd(s8, a, b);
                s9 = Vector256.FusedMultiplyAdd(s9, a, b);
                s10 = Vector256.FusedMultiplyAdd(s10, a, b);
                s11 = Vector256.FusedMultiplyAdd(s11, a, b);
            }

            var sum = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;
            Volatile.Write(ref s_sink, sum.AsByte().GetElement(0));
        }
    }
}
