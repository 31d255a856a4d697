using System.Runtime.CompilerServices;
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

    /// <summary>Computes the values; once, after the arena is allocated. For a device the host computes them and uploads.</summary>
    public void Fill(ComputeStream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        if (stream is CpuStream cpu)
        {
            cpu.For(MaxPositions, 64, new FillJob(Cos, Sin, _theta));
            return;
        }

        using var here = new CpuStream(1);
        using var arena = here.CreateArena("rope table");
        var table = new RopeTable(arena, MaxPositions, HeadDim, _theta);
        arena.Allocate();
        table.Fill(here);
        TensorCopy.Upload(stream, table.Cos.Span, Cos);
        TensorCopy.Upload(stream, table.Sin.Span, Sin);
    }

    private readonly struct FillJob(Tensor<float> cos, Tensor<float> sin, double theta) : ICpuJob
    {
        public void Run(int begin, int end, int worker)
        {
            var half = cos.Shape[1];
            for (var i = 0; i < half; i++)
            {
                var frequency = Math.Pow(theta, -(double)i / half);
                for (var position = begin; position < end; position++)
                {
                    var (s, c) = Math.SinCos(position * frequency);
                    var index = ((nint)position * half) + i;
                    Unsafe.Add(ref cos.Origin, index) = (float)c;
                    Unsafe.Add(ref sin.Origin, index) = (float)s;
                }
            }
        }
    }
}
