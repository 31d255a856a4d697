using System.Runtime.CompilerServices;
using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>
/// Memory for one kernel test. Inputs come from a counter-based generator and are exact in bfloat16; outputs start as NaN; every tensor
/// ends at an inaccessible page. Comparisons are written !(error &lt;= bound), so that a NaN fails.
/// </summary>
public sealed class KernelBench : IDisposable
{
    private readonly List<Arena> _arenas = [];
    private ulong _counter;

    /// <summary>A bench on the CPU with two workers, so that splitting over threads is exercised even on one core.</summary>
    public KernelBench()
        : this("cpu")
    {
    }

    /// <summary>A bench on "cpu" or "hostcuda" (<see cref="KernelDevices"/>); skips the test when the device is absent.</summary>
    public KernelBench(string device) => Stream = device switch
    {
        "cpu" => Cpu,
        "hostcuda" => new CudaStream(KernelDevices.HostCuda),
        _ => throw new ArgumentException($"no device '{device}'", nameof(device)),
    };

    /// <summary>Where the operation under test runs. Inputs and outputs are host tensors: see <see cref="Put"/> and <see cref="Get"/>.</summary>
    public ComputeStream Stream { get; }

    /// <summary>The CPU stream, whatever <see cref="Stream"/> is.</summary>
    public CpuStream Cpu { get; } = new(2);

    /// <summary>Whether the operation under test runs on a device.</summary>
    public bool IsDevice => Stream is CudaStream;

    /// <summary>The tensor where the stream's kernels can use it: itself on the CPU, a copy in an allocation of its own on a device, with an
    /// inaccessible red zone on both sides. The empty tensor stays empty.</summary>
    public Tensor<T> Put<T>(Tensor<T> host)
        where T : unmanaged
    {
        if (host.IsEmpty || Stream is not CudaStream cuda)
        {
            return host;
        }

        var arena = Keep(cuda.CreateArena("test"));
        Span<int> extents = stackalloc int[host.Shape.Rank];
        for (var axis = 0; axis < host.Shape.Rank; axis++)
        {
            extents[axis] = host.Shape[axis];
        }

        var tensor = arena.Declare<T>(extents);
        arena.Allocate();
        cuda.Upload<T>(host.Span, tensor);
        return tensor;
    }

    /// <summary>Copies a result of <see cref="Put"/> back, after all work of the stream; nothing to do on the CPU.</summary>
    public void Get<T>(Tensor<T> device, Tensor<T> host)
        where T : unmanaged
    {
        if (Stream is CudaStream cuda && !device.IsEmpty)
        {
            cuda.Download(device, host.Span);
        }
    }

    /// <summary>Uniform values in (-1, 1), multiples of 2^-7, times <paramref name="scale"/> (a power of two keeps them exact in bfloat16).</summary>
    public Tensor<T> Input<T>(Shape shape, float scale = 1f)
        where T : unmanaged
    {
        var tensor = Allocate<T>(shape);
        foreach (ref var element in tensor.Span)
        {
            Lanes.Set(ref element, 0, (((int)(Next() >> 40) % 255) - 127) / 128f * scale);
        }

        return tensor;
    }

    /// <summary>Filled with NaN: an element that the kernel does not write fails the comparison.</summary>
    public Tensor<T> Output<T>(Shape shape)
        where T : unmanaged
    {
        var tensor = Allocate<T>(shape);
        foreach (ref var element in tensor.Span)
        {
            Lanes.Set(ref element, 0, float.NaN);
        }

        return tensor;
    }

    /// <summary>A copy of integers (tokens, positions, cu_seqlens, …).</summary>
    public Tensor<int> Ints(params ReadOnlySpan<int> values)
    {
        var tensor = Allocate<int>(new Shape(values.Length));
        values.CopyTo(tensor.Span);
        return tensor;
    }

    /// <summary>A copy of values, rounded to T.</summary>
    public Tensor<T> Copy<T>(Shape shape, ReadOnlySpan<double> values)
        where T : unmanaged
    {
        var tensor = Allocate<T>(shape);
        for (var i = 0; i < values.Length; i++)
        {
            Lanes.Set(ref tensor.Origin, (nuint)i, (float)values[i]);
        }

        return tensor;
    }

    /// <summary>An uninitialised (zero) guarded tensor.</summary>
    public Tensor<T> Allocate<T>(Shape shape)
        where T : unmanaged
    {
        var arena = new Arena("test", guarded: true);
        Span<int> extents = stackalloc int[shape.Rank];
        for (var axis = 0; axis < shape.Rank; axis++)
        {
            extents[axis] = shape[axis];
        }

        var tensor = arena.Declare<T>(extents);
        Keep(arena).Allocate();
        return tensor;
    }

    /// <summary>The elements as double, for the oracle.</summary>
    public static double[] Doubles<T>(Tensor<T> tensor)
        where T : unmanaged
    {
        var result = new double[tensor.Count];
        for (var i = 0; i < result.Length; i++)
        {
            result[i] = Lanes.Get(ref tensor.Origin, (nuint)i);
        }

        return result;
    }

    /// <summary>Half the spacing of T relative to the value: the error of one correct rounding (2^-24 for float, 2^-8 for bfloat16).</summary>
    public static double Ulp<T>() => typeof(T) == typeof(float) ? Math.ScaleB(1, -24) : Math.ScaleB(1, -8);

    /// <summary>Every element within absolute + relative · |expected|; the first offender is named.</summary>
    public static void Within<T>(
        Tensor<T> actual, ReadOnlySpan<double> expected, double relative, double absolute, [CallerArgumentExpression(nameof(actual))] string name = "")
        where T : unmanaged
    {
        Assert.Equal(expected.Length, actual.Count);
        for (var i = 0; i < expected.Length; i++)
        {
            double value = Lanes.Get(ref actual.Origin, (nuint)i);
            var bound = absolute + (relative * Math.Abs(expected[i]));
            if (!(Math.Abs(value - expected[i]) <= bound))
            {
                Assert.Fail($"{name}[{i}] of shape {actual.Shape} is {value:R}, expected {expected[i]:R} within {bound:E2}");
            }
        }
    }

    /// <summary>‖actual − expected‖ / ‖expected‖ at most <paramref name="bound"/>.</summary>
    public static void RmsWithin<T>(
        Tensor<T> actual, ReadOnlySpan<double> expected, double bound, [CallerArgumentExpression(nameof(actual))] string name = "")
        where T : unmanaged
    {
        double error = 0, norm = 0;
        for (var i = 0; i < expected.Length; i++)
        {
            var difference = Lanes.Get(ref actual.Origin, (nuint)i) - expected[i];
            error += difference * difference;
            norm += expected[i] * expected[i];
        }

        var ratio = norm == 0 ? Math.Sqrt(error) : Math.Sqrt(error / norm);
        if (!(ratio <= bound))
        {
            Assert.Fail($"{name} differs from the oracle by {ratio:E2} of its norm, bound {bound:E2}");
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Stream.Dispose();
        Cpu.Dispose();
        _arenas.ForEach(a => a.Dispose());
    }

    /// <summary>Disposes <paramref name="arena"/> with the bench.</summary>
    public Arena Keep(Arena arena)
    {
        _arenas.Add(arena);
        return arena;
    }

    private ulong Next()
    {
        // splitmix64 of a counter: Steele, Lea, Flood 2014
        var z = unchecked(++_counter * 0x9E3779B97F4A7C15);
        z = unchecked((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9);
        z = unchecked((z ^ (z >> 27)) * 0x94D049BB133111EB);
        return z ^ (z >> 31);
    }
}
