using Z1Coder.Runtime;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>A tensor to be saved by <see cref="HfDirectory.Save"/>: its declaration, and who writes its elements when its turn comes.</summary>
/// <param name="Info">name as HF spells it, dtype in the file, shape</param>
/// <param name="Write">calls Write of the writer with this name until all elements are there; a sharded parameter is gathered here</param>
public sealed record HfTensor(SafetensorInfo Info, Action<SafetensorsWriter> Write)
{
    /// <summary>A view of float or bfloat16, stored as <paramref name="dtype"/> (F32 or BF16).</summary>
    public static HfTensor From<T>(string name, Tensor<T> values, SafetensorDtype dtype)
        where T : unmanaged
    {
        var shape = new long[values.Shape.Rank];
        for (var axis = 0; axis < shape.Length; axis++)
        {
            shape[axis] = values.Shape[axis];
        }

        return new(new SafetensorInfo(name, dtype, shape), writer => writer.Write(name, values));
    }
}
