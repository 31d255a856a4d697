using System.Text;
using Xunit;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Runtime;

/// <summary>NVRTC without a GPU. Where it is not installed these are skipped.</summary>
public sealed class NvrtcTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("z1-nvrtc-test-").FullName;

    public NvrtcTests()
    {
        if (!KernelCompiler.HasNvrtc(out var reason))
        {
            Directory.Delete(_folder);
            Assert.Skip(reason);
        }
    }

    [Theory]
    [InlineData("sm_80", 80)]
    [InlineData("sm_90a", 90)]
    public void A_cubin_is_for_exactly_the_architecture_asked_for(string architecture, int number)
    {
        var image = KernelCompiler.Compile(CudaDriver.Nvidia, TestKernels.Source, [("kFactor", 5)], architecture, Cache());
        Assert.False(image.FromCache);
        Assert.Equal("\u007fELF", Encoding.Latin1.GetString(image.Image, 0, 4));
        Assert.Equal(190, BitConverter.ToUInt16(image.Image, 18));                    // EM_CUDA
        Assert.Equal(number, (int)(BitConverter.ToUInt32(image.Image, 48) & 0xFF));   // e_flags: the real architecture
        Assert.Equal(["test_overrun", "test_scale", "test_shared"], image.Resources.Select(r => r.Entry).Order());
        Assert.All(image.Resources, r => Assert.True(r is { Registers: > 0 and < 64, SpillStoreBytes: 0, SpillLoadBytes: 0, StackBytes: 0 }, r.ToString()));

        var again = KernelCompiler.Compile(CudaDriver.Nvidia, TestKernels.Source, [("kFactor", 5)], architecture, Cache());
        Assert.True(again.FromCache);
        Assert.Equal(image.Image, again.Image);
        Assert.Equal(image.Resources, again.Resources);
    }

    [Fact]
    public void A_corrupt_entry_is_compiled_again_and_replaced()
    {
        var image = Compile();
        var path = Assert.Single(Directory.GetFiles(_folder));
        var bytes = File.ReadAllBytes(path);
        bytes[^1] ^= 1;
        File.WriteAllBytes(path, bytes);
        var again = Compile();
        Assert.False(again.FromCache);
        Assert.Equal(image.Image, again.Image);
        Assert.True(Compile().FromCache);

        KernelImage Compile() => KernelCompiler.Compile(CudaDriver.Nvidia, TestKernels.Source, [], "sm_80", Cache());
    }

    [Fact]
    public void A_spill_is_in_the_report()
    {
        // 200 values that live across a barrier do not fit into the 64 registers that 1024 threads leave each.
        const string text = """
            extern "C" __global__ void __launch_bounds__(1024) hungry(float* p) {
              float v[200];
              #pragma unroll
              for (int i = 0; i < 200; i++) v[i] = p[i * 1024 + threadIdx.x];
              __syncthreads();
              #pragma unroll
              for (int i = 0; i < 200; i++) p[i * 1024 + threadIdx.x] = v[199 - i] * v[i];
            }
            """;
        var image = KernelCompiler.Compile(CudaDriver.Nvidia, new("hungry", _ => text), [], "sm_80", Cache());
        var hungry = Assert.Single(image.Resources);
        Assert.True(hungry is { SpillStoreBytes: > 0, SpillLoadBytes: > 0 }, hungry.ToString());
    }

    [Fact]
    public void An_error_carries_file_line_and_text()
    {
        var source = new KernelSource("broken", name => name == "broken.cu" ? "#include \"h.cuh\"\nvoid f() { nonsense; }" : name == "h.cuh" ? "// fine" : null);
        var e = Assert.Throws<KernelCompileException>(() => KernelCompiler.Compile(CudaDriver.Nvidia, source, [], "sm_80", Cache()));
        Assert.Contains("broken.cu(2): error: identifier \"nonsense\" is undefined", e.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(_folder));
    }

    [Fact]
    public void An_architecture_this_NVRTC_does_not_know_is_one_sentence()
    {
        var e = Assert.Throws<NotSupportedException>(() => KernelCompiler.Compile(CudaDriver.Nvidia, TestKernels.Source, [], "sm_999", Cache()));
        Assert.Matches(@"^nvrtc \d+\.\d+ cannot compile for sm_999 \(it knows .*sm_80.*\); install a later NVRTC, or set Z1_NVRTC to its path$", e.Message);
    }

    public void Dispose()
    {
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    private ModuleCache Cache() => new(_folder, TextWriter.Null);
}
