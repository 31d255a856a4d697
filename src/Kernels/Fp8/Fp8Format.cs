namespace Z1Coder.Kernels;

/// <summary>The two 8-bit floats of the Open Compute Project.</summary>
public enum Fp8Format
{
    /// <summary>4 bits of exponent, 3 of mantissa: up to ±448, one NaN per sign, no infinity. For weights and activations.</summary>
    E4M3,

    /// <summary>5 bits of exponent, 2 of mantissa: up to ±57,344, with infinity and NaN. For gradients.</summary>
    E5M2,
}
