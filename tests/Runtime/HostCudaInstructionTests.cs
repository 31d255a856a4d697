using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;

namespace Z1Coder.Tests.Runtime;

/// <summary>What the instructions of ptx.cuh and the helpers of z1.cuh do on hostcuda (native/hostcuda/tests/Instructions.cu), against
/// their definitions in the PTX ISA written out again here.</summary>
[Collection("hostcuda")]
public sealed class HostCudaInstructionTests
{
    private static readonly Dictionary<string, CudaKernel> s_kernels = [];

    [Theory]
    [InlineData(32, 1)]
    [InlineData(64, 16)]
    [InlineData(256, 5)]
    [InlineData(1024, 31)]
    public void Shuffles_and_votes_of_ints(int block, int value)
    {
        var result = Run<int, int>("shuffles_int", new(1), block, 0, [0], 7 * block, block, value);
        for (var t = 0; t < block; t++)
        {
            var (warp, lane) = (t / 32 * 32, t % 32);
            Assert.Equal(100 + warp + value, result[t]);
            Assert.Equal(100 + warp + (lane ^ value), result[block + t]);
            Assert.Equal(100 + (lane + value < 32 ? t + value : t), result[(2 * block) + t]);
            Assert.Equal(100 + (lane >= value ? t - value : t), result[(3 * block) + t]);
            var votes = Enumerable.Range(0, 32).Aggregate(0u, (all, i) => all | ((warp + i) % 3 == 0 ? 1u << i : 0));
            Assert.Equal(votes, (uint)result[(4 * block) + t]);
            Assert.Equal(warp == 0 ? 1 : 0, result[(5 * block) + t]);
            Assert.Equal(warp >= value ? 1 : 0, result[(6 * block) + t]);
        }
    }

    /// <summary>40 threads: the second warp has 8 lanes, and xor 4 stays inside them.</summary>
    [Fact]
    public void A_last_warp_that_is_not_whole_shuffles_among_its_lanes()
    {
        var result = Run<int, int>("shuffles_int", new(1), 40, 0, [0], 7 * 40, 40, 0);
        Assert.All(Enumerable.Range(0, 40), t => Assert.Equal(100 + t, result[40 + t]));
        Assert.Equal(0b10010010u, (uint)result[(4 * 40) + 39]);    // threads 33, 36 and 39
    }

    [Theory]
    [InlineData(64, 1)]
    [InlineData(128, 16)]
    public void Shuffles_of_float_uint_and_double(int block, int value)
    {
        var result = Run<int, double>("shuffles_wide", new(1), block, 0, [0], 4 * block, block, value);
        for (var t = 0; t < block; t++)
        {
            var (warp, lane) = (t / 32 * 32, t % 32);
            Assert.Equal(1.0 / (1 + (warp + (lane ^ value))), result[t]);
            Assert.Equal((float)(1.0 / (1 + (lane + value < 32 ? t + value : t))), result[block + t]);
            Assert.Equal(unchecked(0xfffffff0u + (uint)(lane >= value ? t - value : t)), result[(2 * block) + t]);
            Assert.Equal(1.0 / (1 + warp + ((lane + 1) % 32)), result[(3 * block) + t]);
        }
    }

    /// <summary>PTX ISA, ldmatrix: thread i holds row i / 4, elements 2 (i % 4) and the next, of each matrix.</summary>
    [Fact]
    public void Ldmatrix_hands_out_the_documented_fragments()
    {
        var rows = Enumerable.Range(0, 256).Select(i => (ushort)(0x4000 + i)).ToArray();
        var result = Run<ushort, uint>("ldmatrix_all", new(1), 32, 512, rows, 12 * 32, 0, 0);
        ushort At(int matrix, int row, int column) => rows[(((matrix * 8) + row) * 8) + column];
        for (var lane = 0; lane < 32; lane++)
        {
            var (g, t) = (lane / 4, 2 * (lane % 4));
            for (var m = 0; m < 4; m++)
            {
                var plain = At(m, g, t) | ((uint)At(m, g, t + 1) << 16);
                var transposed = At(m, t, g) | ((uint)At(m, t + 1, g) << 16);
                Assert.Equal(plain, result[(32 * m) + lane]);
                Assert.Equal(transposed, result[(32 * (4 + m)) + lane]);
                if (m < 2)
                {
                    Assert.Equal(plain, result[(32 * (8 + m)) + lane]);
                    Assert.Equal(transposed, result[(32 * (10 + m)) + lane]);
                }
            }
        }
    }

    /// <summary>Sixteen products of bf16 (exact in fp32) are added to the accumulator: 16 roundings, each at most 2^-24 of what has been
    /// added in absolute value so far.</summary>
    [Theory]
    [InlineData("mma_product", 768)]
    [InlineData("mma_fragments", 0)]
    public void Mma_is_the_product_of_the_matrices(string entry, int sharedBytes)
    {
        for (var seed = 0u; seed < 8; seed++)
        {
            var random = new Random((int)seed);
            var input = Enumerable.Range(0, 384).Select(_ => (BFloat16)((random.NextSingle() * 4f) - 2f)).ToArray();
            var result = Run<BFloat16, float>(entry, new(1), 32, sharedBytes, input, 128, 0, 3);
            for (var row = 0; row < 16; row++)
            {
                for (var column = 0; column < 8; column++)
                {
                    var (sum, size) = (3.0, 3.0);
                    for (var k = 0; k < 16; k++)
                    {
                        var product = (double)(float)input[(16 * row) + k] * (float)input[256 + (8 * k) + column];
                        sum += product;
                        size += Math.Abs(product);
                    }

                    var error = Math.Abs(result[(8 * row) + column] - sum);
                    Assert.True(error <= 16 * Math.ScaleB(size, -24), $"D[{row}, {column}] of seed {seed} is off by {error}");
                }
            }
        }
    }

    [Theory]
    [InlineData(1, 256)]
    [InlineData(2, 300)]
    [InlineData(7, 1024)]
    [InlineData(5, 0)]
    public void Copies_in_three_stages_land_in_order_and_zero_what_is_not_valid(int tiles, int valid)
    {
        var input = Enumerable.Range(0, 256 * tiles).Select(i => 7 * i).ToArray();
        var result = Run<int, int>("copy_stages", new(1), 64, 3 * 1024, input, 256 * tiles, 256 * tiles, valid);
        Assert.All(Enumerable.Range(0, 256 * tiles), i => Assert.Equal(i < (valid + 3) / 4 * 4 ? 7 * i : 0, result[i]));
    }

    /// <summary>The sum is of multiples of 2^-8 below 2^11, exact in fp32 in any order.</summary>
    [Theory]
    [InlineData(32)]
    [InlineData(96)]
    [InlineData(512)]
    [InlineData(1024)]
    public void Block_reductions_give_every_thread_the_total(int block)
    {
        var random = new Random(block);
        var input = Enumerable.Range(0, block).Select(_ => random.Next(-256, 256) / 256f).ToArray();
        var result = Run<float, double>("block_reductions", new(1), block, 384, input, 6 * block, block, 0);
        double sum = input.Sum(x => (double)x), most = input.Max(), least = input.Min();
        for (var t = 0; t < block; t++)
        {
            var warp = input[(t / 32 * 32)..((t / 32 * 32) + 32)];
            Assert.Equal(sum, result[t]);
            Assert.Equal(most, result[block + t]);
            Assert.Equal(sum, result[(2 * block) + t]);
            Assert.Equal(-least, result[(3 * block) + t]);
            Assert.Equal(warp.Sum(x => (double)x), result[(4 * block) + t]);
            Assert.Equal(warp.Max(), result[(5 * block) + t]);
        }
    }

    [Theory]
    [InlineData(64)]
    [InlineData(256)]
    public void Named_barriers_pass_buffers_between_pairs_of_warps(int block)
    {
        const int Rounds = 5;
        var pairs = block / 64;
        var result = Run<int, int>("named_barriers", new(1), block, 2048, [0], Rounds * pairs * 32, Rounds, 0);
        for (var i = 0; i < result.Length; i++)
        {
            var (round, pair, lane) = (i / (32 * pairs), i / 32 % pairs, i % 32);
            Assert.Equal(2 * ((1000 * round) + (32 * pair) + 31 - lane), result[i]);
        }
    }

    /// <summary>A grid and a block of three dimensions each; 1024 threads in the second case.</summary>
    [Theory]
    [InlineData(3, 2, 4, 5, 3, 2)]
    [InlineData(1, 2, 1, 16, 8, 8)]
    [InlineData(2, 1, 3, 1, 1, 64)]
    public void Threads_know_their_place_in_three_dimensions(int gx, int gy, int gz, int bx, int by, int bz)
    {
        var threads = bx * by * bz;
        var result = Run<int, uint>("indices", new(gx, gy, gz), threads, 0, [0], gx * gy * gz * threads, 0, 0, (bx, by, bz));
        for (var i = 0; i < result.Length; i++)
        {
            var (b, t) = (i / threads, i % threads);
            var expected = (b % gx) | (b / gx % gy << 4) | (b / gx / gy << 8)
                | (t % bx << 12) | (t / bx % by << 20) | (t / bx / by << 26);
            Assert.Equal((uint)expected, result[i]);
        }
    }

    [Fact]
    public void Vectors_round_as_bfloat16_does_and_hash32_is_splitmix64()
    {
        const int Block = 96, Seed = 42;
        var random = new Random(1);
        var input = Enumerable.Range(0, 8 * Block).Select(_ => (BFloat16)((random.NextSingle() * 8f) - 4f)).ToArray();
        (input[0], input[1], input[2]) = ((BFloat16)float.PositiveInfinity, (BFloat16)0f, (BFloat16)(-0f));
        var words = Run<BFloat16, uint>("vectors", new(1), Block, 0, input, (4 * Block) + (8 * Block) + Block, 0, Seed);
        for (var i = 0; i < 8 * Block; i++)
        {
            var product = input[i] * 1.00390625f;
            Assert.Equal(((BFloat16)product).Bits, (ushort)(words[i / 2] >> (16 * (i % 2))));
            Assert.Equal(BitConverter.SingleToUInt32Bits(product), words[(4 * Block) + i]);
        }

        for (var t = 0; t < Block; t++)
        {
            var z = unchecked(Seed + ((ulong)(t + 1) * 0x9e3779b97f4a7c15));
            z = unchecked((z ^ (z >> 30)) * 0xbf58476d1ce4e5b9);
            z = unchecked((z ^ (z >> 27)) * 0x94d049bb133111eb);
            Assert.Equal((uint)((z ^ (z >> 31)) >> 32), words[(12 * Block) + t]);
        }
    }

    [Fact]
    public void The_last_block_sees_what_the_others_published()
    {
        const int Blocks = 37;
        var result = Run<int, int>("last_block_sum", new(Blocks), 64, 16, [0], Blocks + 2, 0, 0);
        Assert.Equal(Blocks, result[Blocks]);
        Assert.Equal(Enumerable.Range(0, Blocks).Sum(i => i * i), result[Blocks + 1]);
    }

    /// <summary>The GPU side of every function in the headers, without a spill. Skipped where NVRTC is not installed.</summary>
    [Theory]
    [InlineData("sm_80")]
    [InlineData("sm_90a")]
    public void The_device_code_of_every_instruction_compiles(string architecture)
    {
        if (!KernelCompiler.HasNvrtc(out var reason))
        {
            Assert.Skip(reason);
        }

        foreach (var (source, entries) in new[] { (HostCudaSources.Instructions, 11), (HostCudaSources.Faults, 31) })
        {
            var image = KernelCompiler.CompileFor(architecture, source);
            Assert.Equal(entries, image.Resources.Count);
            Assert.All(image.Resources, r => Assert.True(r is { SpillStoreBytes: 0, SpillLoadBytes: 0 }, r.ToString()));
        }
    }

    private static unsafe TOut[] Run<TIn, TOut>(
        string entry,
        CudaGrid grid,
        int block,
        int sharedBytes,
        TIn[] input,
        int outputs,
        int count,
        int value,
        (int X, int Y, int Z)? shape = null)
        where TIn : unmanaged
        where TOut : unmanaged
    {
        var device = KernelDevices.HostCuda;
        HostCuda.ResetFault();      // of a test that failed before
        if (!s_kernels.TryGetValue(entry, out var kernel))
        {
            kernel = s_kernels[entry] = new(HostCudaSources.Instructions, entry);
        }

        using var stream = new CudaStream(device);
        using var from = new Arena("input", device);
        using var to = new Arena("output", device);
        var (given, result) = (from.Declare<TIn>(input.Length), to.Declare<TOut>(outputs));
        from.Allocate();
        to.Allocate();
        stream.Upload<TIn>(input, given);
        var parameters = new InstructionParams { In = given.Pointer, Out = result.Pointer, Count = count, Value = value };
        if (shape is { } b)
        {
            void* argument = &parameters;
            var (x, y, z) = ((uint)b.X, (uint)b.Y, (uint)b.Z);
            Cuda.Check(Cuda.cuLaunchKernel(
                kernel.On(device).Value, (uint)grid.X, (uint)grid.Y, (uint)grid.Z, x, y, z, (uint)sharedBytes, stream.Value, &argument,
                null));
        }
        else
        {
            stream.Launch(kernel, grid, block, parameters, sharedBytes);
        }

        var values = new TOut[outputs];
        stream.Download(result, values);
        return values;
    }

    private unsafe struct InstructionParams
    {
        public void* In, Out;
        public int Count, Value;
    }
}
