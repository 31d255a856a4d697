using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>Checks that precede every launch. Each failure names the argument as written, what it was and what would be right.</summary>
internal static partial class Expect
{
    public static void Shape<T>(Tensor<T> tensor, int d0, [CallerArgumentExpression(nameof(tensor))] string name = "")
        where T : unmanaged
    {
        if (tensor.Shape.Rank != 1 || tensor.Shape[0] != d0)
        {
            Fail($"{name} must have shape [{d0}], has {tensor.Shape}");
        }
    }

    public static void Shape<T>(Tensor<T> tensor, int d0, int d1, [CallerArgumentExpression(nameof(tensor))] string name = "")
        where T : unmanaged
    {
        if (tensor.Shape.Rank != 2 || tensor.Shape[0] != d0 || tensor.Shape[1] != d1)
        {
            Fail($"{name} must have shape [{d0}, {d1}], has {tensor.Shape}");
        }
    }

    public static void That(bool condition, string message)
    {
        if (!condition)
        {
            Fail(message);
        }
    }

    /// <summary>CUDA code exists for bfloat16 tensors.</summary>
    public static void BFloat16<T>([CallerMemberName] string op = "")
        where T : unmanaged
    {
        if (typeof(T) != typeof(BFloat16))
        {
            throw new NotSupportedException($"{op} on CUDA takes bfloat16 tensors, not {typeof(T).Name}");
        }
    }

    [DoesNotReturn]
    public static CpuStream NoDevice(ComputeStream stream, [CallerMemberName] string op = "") =>
        throw new NotSupportedException($"{op} has no code for a {stream.GetType().Name}");

    [DoesNotReturn]
    private static void Fail(string message) => throw new ArgumentException(message);
}
