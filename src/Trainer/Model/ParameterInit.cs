namespace Z1Coder.Trainer.Model;

/// <summary>Initial values of a parameter when training starts from random weights.</summary>
public enum ParameterInit
{
    /// <summary>Normal with the config's initializer_range as standard deviation.</summary>
    Normal,

    /// <summary>Normal, divided by sqrt(2 · layers): matrices that write into the residual stream (Radford et al. 2019).</summary>
    NormalResidual,

    /// <summary>All one (norm weights).</summary>
    One,

    /// <summary>All zero (biases).</summary>
    Zero,
}
