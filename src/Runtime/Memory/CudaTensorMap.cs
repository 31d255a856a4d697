using System.Runtime.InteropServices;

namespace Z1Coder.Runtime;

/// <summary>
/// What the tensor copy engine of Hopper is told of a matrix in device memory: a CUtensorMap, 128 opaque bytes. A field of a kernel's
/// params struct, at an offset that is a multiple of 64 bytes; so the maps come first. Valid while the matrix stays where it is.
/// </summary>
[StructLayout(LayoutKind.Sequential, Size = Bytes)]
public unsafe struct CudaTensorMap
{
    private const int Bytes = 128, Alignment = 64;
    private const int SlabBytes = 128;                          // the widest row that the 128-byte swizzle takes
    private const int BFloat16Type = 9, NoInterleave = 0, Swizzle128 = 3, Promote256 = 3, ZerosOutside = 0;

    private fixed ulong _opaque[Bytes / sizeof(ulong)];

    /// <summary>
    /// A matrix [R, C] as the tensor [C/64, R, 64], copied in boxes of [<paramref name="columns"/>/64, <paramref name="rows"/>, 64]: in
    /// shared memory slabs of 64 columns, rows of 128 bytes, each row swizzled by 128 bytes. Rows from R on arrive as zeros. The stride of
    /// the outer axis is the smaller one; the driver asks only for multiples of 16 bytes.
    /// </summary>
    /// <param name="matrix">[R, C] in device memory, C a multiple of 64, at a multiple of 16 bytes</param>
    /// <param name="rows">rows of a box, 1 to 256</param>
    /// <param name="columns">columns of a box, a multiple of 64 up to 16,384</param>
    /// <exception cref="CudaException">the driver refuses the matrix or the box</exception>
    public static CudaTensorMap Slabs(Tensor<BFloat16> matrix, int rows, int columns)
    {
        const int Slab = SlabBytes / 2;
        if (matrix.Device is null || matrix.Shape.Rank != 2 || matrix.Shape.Columns % Slab != 0 || columns <= 0 || columns % Slab != 0)
        {
            throw new ArgumentException(
                $"a tensor map takes a matrix in device memory and boxes of whole slabs of {Slab} columns; got {matrix.Shape}, {columns}");
        }

        var buffer = stackalloc byte[Bytes + Alignment];
        var map = (CudaTensorMap*)(((nuint)buffer + Alignment - 1) / Alignment * Alignment);
        var sizes = stackalloc ulong[] { Slab, (ulong)matrix.Shape[0], (ulong)(matrix.Shape.Columns / Slab) };
        var strides = stackalloc ulong[] { (ulong)matrix.Shape.Columns * sizeof(ushort), SlabBytes };
        var box = stackalloc uint[] { Slab, (uint)rows, (uint)(columns / Slab) };
        var steps = stackalloc uint[] { 1, 1, 1 };
        Cuda.Check(Cuda.cuTensorMapEncodeTiled(
            map, BFloat16Type, 3, matrix.Pointer, sizes, strides, box, steps, NoInterleave, Swizzle128, Promote256, ZerosOutside));
        return *map;
    }
}
