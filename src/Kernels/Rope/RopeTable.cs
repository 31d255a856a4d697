using Z1Coder.Runtime;

namespace Z1Coder.Kernels;

/// <summary>
/// cos and sin of position · theta^(−2i/H) for every position and i below H/2: computed in double, rounded once to float.
/// Declare it in an arena, allocate the arena, then <see cref="Fill"/>.
/// </summary>
public sealed class RopeTable
{
    private readonly double _theta;

    /// <summary>Declares the table in <paramref name="arena"/>, which owns its memory.</summary>
    /// <param name="arena">not yet allocated</param>
    /// <param name="maxPositions">positions 0 to maxPositions − 1 exist</param>
    /// <param name="headDim">H, even</param>
    /// <param name="theta">the base of the frequencies, "rope_theta"</param>
    public RopeTable(Arena arena, int maxPositions, int headDim, double theta)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maxPositions, 1);
        ArgumentOutOfRangeException.ThrowIfNotEqual(theta > 0 && double.IsFinite(theta), true, nameof(theta));
        if (headDim < 2 || headDim % 2 != 0)
        {
            throw new ArgumentOutOfRangeException(nameof(headDim), headDim, "the head dimension must be even and at least 2");
        }

        _theta = theta;
        HeadDim = headDim;
        Cos = arena.Declare<float>(maxPositions, headDim / 2);
        Sin = arena.Declare<float>(maxPositions, headDim / 2);
    }

    /// <summary>H.</summary>
    public int HeadDim { get; }

    /// <summary>Positions the table holds.</summary>
    public int MaxPositions => Cos.Shape[0];

    /// <summary>[maxPositions, H/2]</summary>
    public Tensor<float> Cos { get; }

    /// <summary>[maxPositions, H/2]</summary>
    public Tensor<float> Sin { get; }

    /// <summary>Computes the values; once, after the arena is allocated.</summary>
    public void Fill()
    {
        var half = HeadDim / 2;
        var frequencies = new double[half];
        for (var i = 0; i < half; i++)
        {
            frequencies[i] = Math.Pow(_theta, -(double)i / half);
        }

        HostPieces.Fill(Cos, (start, piece) => FillPiece(piece, start, frequencies, sine: false));
        HostPieces.Fill(Sin, (start, piece) => FillPiece(piece, start, frequencies, sine: true));
    }

    private static void FillPiece(Span<float> piece, long start, double[] frequencies, bool sine)
    {
        for (var e = 0; e < piece.Length; e++)
        {
            var (position, i) = Math.DivRem(start + e, frequencies.Length);
            var (s, c) = Math.SinCos(position * frequencies[i]);
            piece[e] = (float)(sine ? s : c);
        }
    }
}
