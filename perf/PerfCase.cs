using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>One kernel at one shape: how to prepare it, what it must cost, and what it is compared with.</summary>
/// <param name="Name">family and verb, then dtype: "RmsNorm.Forward bf16"</param>
/// <param name="Shape">as a person writes it: "1280x896"</param>
/// <param name="Cost">from the kernel's contract</param>
/// <param name="Prepare">makes and fills the tensors; returns the action that is timed</param>
public sealed record PerfCase(string Name, string Shape, Cost Cost, Func<PerfInputs, Action<CpuStream>> Prepare);
