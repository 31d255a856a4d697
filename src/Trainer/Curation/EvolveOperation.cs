namespace Z1Coder.Trainer.Curation;

/// <summary>One way of Evol-Instruct (arXiv:2304.12244; for code arXiv:2306.08568) to make a problem from a problem.</summary>
public enum EvolveOperation
{
    /// <summary>In depth: one more constraint or requirement.</summary>
    Constraints,

    /// <summary>In depth: the same matter, asked more deeply.</summary>
    Deepen,

    /// <summary>In depth: general notions become specific.</summary>
    Concretize,

    /// <summary>In depth: more steps of reasoning.</summary>
    Reasoning,

    /// <summary>In breadth: another, rarer problem of the same field.</summary>
    Breadth,
}
