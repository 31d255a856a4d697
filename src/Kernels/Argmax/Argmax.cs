using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>index[r] = the column of the largest element of row r, the lowest of equals; greedy decoding. NaN never wins; a row of NaN gives 0.</summary>
public static partial class Argmax
{
    /// <summary>Writes the index of the largest element of each row.</summary>
    /// <param name="stream">where it runs</param>
    /// <param name="x">[R, V]</param>
    /// <param name="index">[R]</param>
    public static void Forward<T>(ComputeStream stream, Tensor<T> x, Tensor<int> index)
        where T : unmanaged
    {
        Expect.Shape(index, x.Shape[0]);
        Expect.Shape(x, x.Shape[0], x.Shape[1]);
        Expect.That(x.Shape[1] > 0, "x must have at least one column");
        if (stream is CpuStream cpu)
        {
            ForwardCpu(cpu, x, index);
        }
        else if (stream is CudaStream cuda)
        {
            ForwardCuda(cuda, x, index);
        }
        else
        {
            Expect.NoDevice(stream);
        }
    }

    /// <summary>Each element is read once.</summary>
    public static Cost ForwardCost<T>(long rows, long columns) => new((rows * columns * System.Runtime.CompilerServices.Unsafe.SizeOf<T>()) + (4 * rows), rows * columns);
}
