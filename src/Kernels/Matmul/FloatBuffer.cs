using System.Runtime.InteropServices;

namespace Z1Coder.Kernels;

/// <summary>Scratch memory of a product, one for each thread and use: made when first asked for, grown where it is too small, and kept.</summary>
internal sealed unsafe class FloatBuffer
{
    private float* _memory;
    private nint _length;

    ~FloatBuffer() => NativeMemory.AlignedFree(_memory);

    /// <summary>Room for so many floats, on a page's boundary; what it held is lost where it has to grow.</summary>
    public float* AtLeast(nint length)
    {
        if (length > _length)
        {
            NativeMemory.AlignedFree(_memory);
            _length = 0;
            _memory = null;
            _memory = (float*)NativeMemory.AlignedAlloc((nuint)length * sizeof(float), 4096);
            _length = length;
        }

        return _memory;
    }
}
