namespace Z1Coder.Trainer.Model;

/// <summary>What the backward pass computes again instead of keeping it: trades time for memory, never changes a bit.</summary>
[Flags]
public enum Recompute
{
    /// <summary>Keep everything.</summary>
    None = 0,

    /// <summary>The two normalised inputs of each layer: 2 · D elements a token and layer.</summary>
    Norm = 1,

    /// <summary>SwiGLU's output: F elements a token and layer.</summary>
    SwiGlu = 2,

    /// <summary>Everything but each layer's input.</summary>
    Block = 4,
}
