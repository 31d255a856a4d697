using System.CommandLine;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Evaluate;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 doctor</summary>
internal static class DoctorCommand
{
    public static Command Create()
    {
        var json = new Option<bool>("--json") { Description = "as JSON" };
        var command = new Command(
            "doctor",
            """
            Devices, native libraries with versions, sandbox, and the measured roofs of this machine. A library that is missing is named with
            what installs it. A few seconds; nothing is written:

              z1 doctor
            """) { json };
        command.SetAction(parsed =>
        {
            using var stream = new CpuStream();
            var roofs = Roofs.Measure(stream, quick: true);
            var vector = Vector512.IsHardwareAccelerated ? "AVX-512" : Vector256.IsHardwareAccelerated ? "AVX2" : "128-bit";
            var sandbox = Sandbox.Probe();
            if (parsed.GetValue(json))
            {
                CliJson.Write(writer =>
                {
                    writer.WriteString("device", stream.DeviceName);
                    writer.WriteString("vectors", vector);
                    writer.WriteString("runtime", RuntimeInformation.FrameworkDescription);
                    writer.WriteStartArray("cuda_devices");
                    foreach (var line in NativeLibraries.DescribeDevices())
                    {
                        writer.WriteStringValue(line);
                    }

                    writer.WriteEndArray();
                    writer.WriteStartArray("libraries");
                    foreach (var line in NativeLibraries.Describe().Split('\n'))
                    {
                        writer.WriteStringValue(line);
                    }

                    writer.WriteEndArray();
                    writer.WriteBoolean("sandbox_works", sandbox.Works);
                    writer.WriteString("sandbox", sandbox.Message);
                    writer.WriteNumber("copy_bytes_per_second", roofs.CopyBytesPerSecond);
                    writer.WriteNumber("read_bytes_per_second", roofs.ReadBytesPerSecond);
                    writer.WriteNumber("gemm_bf16_flops_per_second", roofs.GemmFlopsPerSecond<BFloat16>());
                    writer.WriteNumber("gemm_fp32_flops_per_second", roofs.GemmFlopsPerSecond<float>());
                });
                return 0;
            }

            Console.WriteLine($"device     {stream.DeviceName}, {vector}, {GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (double)(1 << 30):F1} GiB");
            foreach (var line in NativeLibraries.DescribeDevices())
            {
                Console.WriteLine($"device     {line}");
            }

            Console.WriteLine($"runtime    {RuntimeInformation.FrameworkDescription}, {RuntimeInformation.OSDescription}");
            foreach (var line in NativeLibraries.Describe().Split('\n'))
            {
                Console.WriteLine($"library    {line}");
            }

            Console.WriteLine($"sandbox    {sandbox.Message}");
            Console.WriteLine($"memory     copy {roofs.CopyBytesPerSecond / 1e9:F1} GB/s, read {roofs.ReadBytesPerSecond / 1e9:F1} GB/s");
            Console.WriteLine($"GEMM       bf16 {roofs.GemmFlopsPerSecond<BFloat16>() / 1e9:F0} GFLOP/s, fp32 {roofs.GemmFlopsPerSecond<float>() / 1e9:F0} GFLOP/s");
            return 0;
        });
        return command;
    }
}
