using System.Text.RegularExpressions;
using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Tests.Kernels;

namespace Z1Coder.Tests.Runtime;

/// <summary>
/// What hostcuda is for: each kernel of native/hostcuda/tests/Faults.cu has one planted fault, which must be reported in these words and
/// with this code; the same kernel without the fault must pass.
/// </summary>
[Collection("hostcuda")]
public sealed partial class HostCudaFaultTests
{
    private const int Illegal = 700, Misaligned = 716, Failed = 719;
    private const int Count = 1022, SharedBytes = 4096;

    [Theory]
    [InlineData("fault_global_read", 1, 64, Illegal, "thread 5 reads 4 bytes at 8 bytes past the end of a 4088-byte allocation")]
    [InlineData("fault_global_write", 1, 1024, Illegal, "thread 5 writes 4 bytes at 0 bytes past the end of a 4088-byte allocation")]
    [InlineData("fault_global_before", 1, 64, Illegal, "thread 0 reads 4 bytes at 8 bytes before the start of a 4088-byte allocation")]
    [InlineData("fault_vector_partly_outside", 1, 64, Illegal,
        "thread 0 writes 16 bytes at offset 4080, partly past the end of a 4088-byte allocation")]
    [InlineData("fault_no_memory", 1, 64, Illegal, "thread 0 reads 4 bytes at 0x40, where there is no device memory")]
    [InlineData("fault_misaligned_vector", 1, 64, Misaligned, "thread 0 reads 16 bytes at offset 4 of a 4088-byte allocation: misaligned")]
    [InlineData("fault_misaligned_word", 1, 64, Misaligned, "thread 0 reads 4 bytes at offset 2 of a 4088-byte allocation: misaligned")]
    [InlineData("fault_shared_bounds", 1, 64, Illegal,
        "thread 1 writes 4 bytes at 0 bytes past the end of the 4096 bytes of shared memory")]
    [InlineData("fault_shared_uninitialised", 1, 64, Failed, "thread 0 reads 4 bytes at shared offset 252: uninitialised shared memory")]
    [InlineData("fault_race_write_write", 1, 1024, Failed,
        "thread 1 writes 4 bytes at shared offset 0 that thread 0 writes with no barrier between (race write/write)")]
    [InlineData("fault_race_read_write", 1, 64, Failed,
        "thread 33 writes 4 bytes at shared offset 132 that thread 32 reads with no barrier between (race write/read)")]
    [InlineData("fault_race_write_after_read", 1, 64, Failed,
        "thread 32 writes 4 bytes at shared offset 128 that thread 63 reads with no barrier between (race write/read)")]
    [InlineData("fault_race_global", 1, 64, Failed,
        "thread 63 writes 4 bytes at offset 252 of a 4088-byte allocation that thread 0 reads with no barrier between (race write/read)")]
    [InlineData("fault_missing_sync_warp", 1, 32, Failed,
        "thread 0 reads 4 bytes at shared offset 4 that thread 1 writes|thread 1 writes 4 bytes at shared offset 4 that thread 0 reads")]
    [InlineData("fault_shuffle_for_barrier", 1, 32, Failed, "with no barrier between (race ")]
    [InlineData("fault_struct_copy", 1, 32, Illegal, "thread 0 reads 16 bytes at offset 4080, partly past the end of a 4088-byte")]
    [InlineData("fault_divergent_barrier", 1, 64, Failed,
        "divergent barrier: threads 0-47 wait at sync_threads (Faults.cu:*); threads 48-63 have exited")]
    [InlineData("fault_two_barriers", 1, 64, Failed,
        "divergent barrier: threads 0-31 wait at bar_sync 1 of 64 threads (Faults.cu:*); threads 32-63 wait at sync_threads")]
    [InlineData("fault_barrier_count", 1, 64, Failed, "thread 32 arrives at barrier 3 for 32 threads, others for 64: divergent barrier")]
    [InlineData("fault_divergent_shuffle", 1, 64, Failed,
        "divergent barrier: threads 0-6, 8-38, 40-63 wait at shfl_xor (Faults.cu:*); threads 7, 39 have exited")]
    [InlineData("fault_mixed_warp_operations", 1, 64, Failed,
        "thread 7 is at sync_warp while other lanes of its warp wait at shfl_xor: divergent warp operation")]
    [InlineData("fault_missing_lane", 1, 48, Failed, "thread 32 takes a shfl_xor value from lane 16 of a warp that has 16 lanes")]
    [InlineData("fault_missing_copy_wait", 1, 64, Failed,
        "thread 0 reads 4 bytes at shared offset 0 where an asynchronous copy is still under way: its wait is missing")]
    [InlineData("fault_missing_copy_barrier", 1, 64, Failed,
        "thread 1 reads 4 bytes at shared offset 0 that thread 0 writes with no barrier between (race read/write)")]
    [InlineData("fault_missing_ldmatrix_barrier", 1, 32, Failed,
        "thread 1 writes 16 bytes at shared offset 0 that thread 0 reads with no barrier between (race write/read)")]
    [InlineData("fault_blocks_write", 4, 64, Failed,
        "block (1,0,0) thread 0 writes 4 bytes at offset 12 of a 4088-byte allocation that block (0,0,0) writes")]
    [InlineData("fault_blocks_read", 3, 64, Failed,
        "block (1,0,0) thread 0 reads 4 bytes at offset 0 of a 4088-byte allocation that block (0,0,0) writes in the same launch")]
    [InlineData("fault_missing_fence", 4, 64, Failed,
        "block (3,0,0) thread 0 reads 4 bytes at offset 0 of a 4088-byte allocation that block (0,0,0) writes in the same launch")]
    [InlineData("fault_endless_wait", 1, 64, Failed,
        "a wait without end: thread 0 waits for a change of what it reads over and over (Faults.cu:*); threads 1-63 have exited")]
    [InlineData("fault_module_data", 1, 64, Failed, "thread 2 writes 4 bytes of the module's own data, which a kernel must not write")]
    public void A_planted_fault_is_reported_and_its_twin_passes(string entry, int grid, int block, int code, string expected)
    {
        var device = KernelDevices.HostCuda;
        HostCuda.ResetFault();      // of a test that failed before
        var kernel = new CudaKernel(HostCudaSources.Faults, entry);
        using var stream = new CudaStream(device);
        using var arena = Memory(device, out var data);
        using var second = Memory(device, out var other);

        Launch(stream, kernel, grid, block, data, other, planted: 0);
        stream.Synchronize();
        Assert.Throws<CudaException>(Planted);
        Assert.StartsWith($"{entry}: block (", HostCuda.LastFault);
        Assert.Matches(Pattern(expected), HostCuda.LastFault);
        Assert.Matches(@" \(Faults\.cu:\d+\)", HostCuda.LastFault);
        var failure = Assert.Throws<CudaException>(stream.Synchronize);    // sticky
        Assert.Equal(code, failure.Code);
        Assert.Contains(HostCuda.LastFault, failure.Message);
        HostCuda.ResetFault();

        Launch(stream, kernel, grid, block, data, other, planted: 0);
        stream.Synchronize();

        void Planted()
        {
            Launch(stream, kernel, grid, block, data, other, planted: 1);
            stream.Synchronize();
        }
    }

    [Fact]
    public unsafe void An_access_to_freed_memory_is_reported()
    {
        var device = KernelDevices.HostCuda;
        HostCuda.ResetFault();      // of a test that failed before
        var kernel = new CudaKernel(HostCudaSources.Faults, "fault_freed_memory");
        using var stream = new CudaStream(device);
        using var arena = Memory(device, out var data);
        using var second = Memory(device, out var other);
        Launch(stream, kernel, 1, 32, data, other, planted: 0);
        stream.Synchronize();

        var parameters = new FaultParams { Data = data.Pointer, Other = other.Pointer, Count = Count };
        arena.Dispose();
        var failure = Assert.Throws<CudaException>(() =>
        {
            stream.Launch(kernel, new(1), 32, parameters, SharedBytes);
            stream.Synchronize();
        });
        Assert.Equal(Illegal, failure.Code);
        Assert.Contains("thread 0 reads 4 bytes at offset 4 of a 4088-byte allocation that was freed", HostCuda.LastFault);
        HostCuda.ResetFault();
    }

    /// <summary>Every kernel of the file is in the theory above, so that a fault class cannot lose its test.</summary>
    [Fact]
    public void Every_planted_fault_has_its_case()
    {
        var file = File.ReadAllText(Path.Combine(Goldens.RepositoryRoot, "native", "hostcuda", "tests", "Faults.cu"));
        var kernels = Entry().Matches(file).Select(m => m.Groups[1].Value).Order(StringComparer.Ordinal);
        var cases = typeof(HostCudaFaultTests).GetMethod(nameof(A_planted_fault_is_reported_and_its_twin_passes))!
            .GetCustomAttributes(typeof(InlineDataAttribute), false).Cast<InlineDataAttribute>()
            .Select(d => (string)d.Data[0]!).Append("fault_freed_memory").Order(StringComparer.Ordinal);
        Assert.Equal(kernels, cases);
    }

    private static Arena Memory(CudaDevice device, out Tensor<int> ints)
    {
        var arena = new Arena("fault", device);
        ints = arena.Declare<int>(Count);
        arena.Allocate();
        return arena;
    }

    private static unsafe void Launch(
        CudaStream stream, CudaKernel kernel, int grid, int block, Tensor<int> data, Tensor<int> other, int planted)
    {
        stream.Fill(other, 0);
        stream.Launch(
            kernel,
            new(grid),
            block,
            new FaultParams { Data = data.Pointer, Other = other.Pointer, Count = Count, Planted = planted },
            SharedBytes);
    }

    /// <summary>The text itself, "*" for a number; "|" separates what either order of the threads gives.</summary>
    private static string Pattern(string text) => Regex.Escape(text).Replace(@"\*", @"\d+").Replace(@"\|", "|");

    [GeneratedRegex(@"Z1_KERNEL\(1024, 1, (\w+),")]
    private static partial Regex Entry();

    private unsafe struct FaultParams
    {
        public int* Data, Other;
        public int Count, Planted;
    }
}
