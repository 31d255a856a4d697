using System.Runtime.InteropServices;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;

namespace Z1Coder.Tests.Runtime;

/// <summary>
/// wgmma, tensor copies and mbarriers on hostcuda: native/hostcuda/tests/Hopper.cu multiplies two tiles, against the product of integers
/// that are exact in bfloat16; each planted misuse must be reported in these words, which may depend on the order of the threads ("|");
/// and cuTensorMapEncodeTiled refuses what the driver's documentation refuses.
/// </summary>
[Collection("hostcuda")]
public sealed class HostCudaHopperTests
{
    private const int Rows = 100, Columns = 64, SharedBytes = 17 * 1024;
    private const int NoMultiplyWait = 12, Failed = 719;

    private static readonly CudaKernel s_products = new(HostCudaSources.Hopper, "hopper_products");

    [Fact]
    public void Products_are_exact_and_rows_past_the_end_are_zero()
    {
        using var call = new Call();
        call.Run(planted: 0);
        var (d, e) = call.Expected();
        Assert.Equal(d, call.D());
        Assert.Equal(e, call.E());
    }

    [Theory]
    [InlineData(1, "threads 0-127 wait for the mbarrier at 16384 of shared memory, parity 0 (Hopper.cu:")]
    [InlineData(2, "where an asynchronous copy is still under way: its wait is missing|: uninitialised shared memory")]
    [InlineData(3, "issues a wgmma without a wgmma.fence since its last wait")]
    [InlineData(4, "changed the A registers of a wgmma that was under way")]
    [InlineData(5, "starts a tensor copy into shared memory that a wgmma of thread ")]
    [InlineData(6, "with no barrier between (race write/read)|that a wgmma of thread ")]
    [InlineData(7, "thread 0 arrives at an mbarrier that has all arrivals of its phase")]
    [InlineData(8, "waits for parity 2 of an mbarrier")]
    [InlineData(9, "uses an mbarrier that nobody has initialised")]
    [InlineData(10, "thread 0 copies swizzled rows to shared memory that is not aligned to 1024 bytes")]
    [InlineData(11, "issued a wgmma whose shape or descriptors differ between the lanes of its warp")]
    [InlineData(13, "thread 0 copies by something that is no tensor map of 3 dimensions")]
    public void A_planted_misuse_is_reported_and_its_twin_passes(int planted, string expected)
    {
        using var call = new Call();
        call.Run(planted: 0);
        try
        {
            var failure = Assert.Throws<CudaException>(() => call.Run(planted));
            Assert.StartsWith("hopper_products: block (0,0,0)", HostCuda.LastFault);
            Assert.Contains(expected.Split('|'), part => HostCuda.LastFault.Contains(part, StringComparison.Ordinal));
            Assert.Equal(Failed, failure.Code);
        }
        finally
        {
            HostCuda.ResetFault();
        }
    }

    [Fact]
    public void Accumulators_read_before_the_wait_are_stale()
    {
        using var call = new Call();
        call.Run(NoMultiplyWait);
        Assert.All(call.D(), x => Assert.Equal(0f, x));
        Assert.NotEqual(call.Expected().D, call.D());
    }

    [Fact]
    public void Wrong_maps_are_refused()
    {
        using var call = new Call();
        Assert.Throws<CudaException>(() => CudaTensorMap.Slabs(call.Matrix, 257, Columns));
        Assert.Throws<CudaException>(() => CudaTensorMap.Slabs(call.Matrix, 0, Columns));
        Assert.Throws<CudaException>(() => CudaTensorMap.Slabs(call.Unaligned, 64, Columns));
        Assert.Throws<ArgumentException>(() => CudaTensorMap.Slabs(call.Matrix, 64, 32));
        Assert.Throws<ArgumentException>(() => CudaTensorMap.Slabs(call.Matrix.Reshape(2 * Rows, Columns / 2), 64, Columns));
        using var bench = new KernelBench();
        Assert.Throws<ArgumentException>(() => CudaTensorMap.Slabs(bench.Input<BFloat16>(new(Rows, Columns)), 64, Columns));
    }

    [StructLayout(LayoutKind.Sequential, Size = 192)]
    private unsafe struct HopperParams
    {
        public CudaTensorMap Map;
        public float* D, E;
        public int Planted;
    }

    private sealed class Call : IDisposable
    {
        private readonly float[] _values = new float[Rows * Columns];
        private readonly Arena _arena;
        private readonly CudaStream _stream;
        private readonly Tensor<float> _d, _e;

        public Call()
        {
            _stream = new(KernelDevices.HostCuda);
            _arena = _stream.CreateArena("hopper");
            Matrix = _arena.Declare<BFloat16>(Rows, Columns);
            (_d, _e) = (_arena.Declare<float>(64, 64), _arena.Declare<float>(64, 64));
            _arena.Allocate();
            var random = new Random(3);
            var elements = new BFloat16[_values.Length];
            for (var i = 0; i < elements.Length; i++)
            {
                _values[i] = random.Next(-1, 2);
                elements[i] = (BFloat16)_values[i];
            }

            _stream.Upload<BFloat16>(elements, Matrix);
        }

        public Tensor<BFloat16> Matrix { get; }

        /// <summary>One element after the start: no multiple of 16 bytes.</summary>
        public Tensor<BFloat16> Unaligned => Matrix.Reshape(Rows * Columns).Rows(1, Columns).Reshape(1, Columns);

        public unsafe void Run(int planted)
        {
            var map = CudaTensorMap.Slabs(Matrix, 64, Columns);
            var parameters = new HopperParams { Map = map, D = _d.Pointer, E = _e.Pointer, Planted = planted };
            _stream.Fill(_d, 0xFF);
            _stream.Fill(_e, 0xFF);
            _stream.Launch(s_products, new(1), 128, parameters, SharedBytes);
            _stream.Synchronize();
        }

        public float[] D() => Download(_d);

        public float[] E() => Download(_e);

        public (float[] D, float[] E) Expected()
        {
            var (d, e) = (new float[64 * 64], new float[64 * 64]);
            float B(int row, int column) => 64 + row < Rows ? _values[((64 + row) * Columns) + column] : 0;
            for (var i = 0; i < 64; i++)
            {
                for (var j = 0; j < 64; j++)
                {
                    for (var c = 0; c < Columns; c++)
                    {
                        d[(i * 64) + j] += _values[(i * Columns) + c] * B(j, c);
                    }
                }

                for (var j = 0; j < 64; j++)
                {
                    for (var c = 0; c < 64; c++)
                    {
                        e[(i * 64) + j] += d[(i * 64) + c] * B(c, j);
                    }
                }
            }

            return (d, e);
        }

        public void Dispose()
        {
            _stream.Dispose();
            _arena.Dispose();
        }

        private float[] Download(Tensor<float> from)
        {
            var to = new float[from.Count];
            _stream.Download(from, to);
            return to;
        }
    }
}
