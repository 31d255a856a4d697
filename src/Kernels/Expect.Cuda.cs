using System.Runtime.CompilerServices;
using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

internal static unsafe partial class Expect
{
    /// <summary>The address of a tensor that must be in the memory of the stream's device.</summary>
    public static T* On<T>(CudaStream stream, Tensor<T> tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
        where T : unmanaged
    {
        if (!ReferenceEquals(tensor.Device, stream.Device))
        {
            Fail($"{name} must be in the memory of {stream.Device}");
        }

        return tensor.Pointer;
    }

    /// <summary>As <see cref="On"/>, null for the empty tensor.</summary>
    public static T* OnOrNull<T>(CudaStream stream, Tensor<T> tensor, [CallerArgumentExpression(nameof(tensor))] string name = "")
        where T : unmanaged => tensor.IsEmpty ? null : On(stream, tensor, name);
}
