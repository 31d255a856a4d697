using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Perf;

/// <summary>One kernel at one shape, on any device: how to prepare it, what it must cost, and how far two right answers may lie apart.</summary>
/// <param name="Name">family and verb, then dtype: "RmsNorm.Forward bf16"</param>
/// <param name="Shape">as a person writes it: "1280x896"</param>
/// <param name="Cost">from the kernel's contract</param>
/// <param name="Prepare">makes and fills the tensors; returns the action that is timed</param>
/// <param name="Roundings">bf16 roundings that one device does and another may not, per element: the bound of <see cref="KernelChecker"/></param>
public sealed record PerfCase(string Name, string Shape, Cost Cost, Func<PerfInputs, Action<ComputeStream>> Prepare, double Roundings = 2);
