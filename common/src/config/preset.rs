//! What each preset and each objective sets: explicit values for keys that can be read, printed and overridden one by one.

use super::{Objective, Preset};

/// What Atari environments have in common, whatever the protocol.
const ATARI: [(&str, &str); 9] = [
    ("environment.options.vector", "\"auto\""),
    ("environment.options.frame_skip", "4"),
    ("environment.options.frame_stack", "4"),
    ("environment.options.max_pool", "true"),
    ("environment.options.screen_size", "84"),
    ("environment.options.grayscale", "true"),
    ("environment.options.frames_max", "108000"),
    ("environment.options.threads", "1"),
    ("algorithm.reward_clip", "1.0"),
];

/// Mnih et al., 2015 (doi 10.1038/nature14236), methods and extended data table 1.
const DQN: [(&str, &str); 5] = [
    ("environment.options.sticky", "0.0"),
    ("environment.options.noop_max", "30"),
    ("environment.options.fire_reset", "true"),
    ("environment.options.full_actions", "false"),
    ("environment.options.life_loss", "true"),
];

/// Machado et al., 2018 (arXiv 1709.06009), section 5 and table 5.
const MACHADO: [(&str, &str); 5] = [
    ("environment.options.sticky", "0.25"),
    ("environment.options.noop_max", "0"),
    ("environment.options.fire_reset", "false"),
    ("environment.options.full_actions", "true"),
    ("environment.options.life_loss", "false"),
];

impl Preset {
    /// The keys that it sets, each with its value as TOML.
    pub(super) fn values(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::None => Vec::new(),
            Self::AtariDqn => [ATARI.as_slice(), &DQN].concat(),
            Self::AtariMachado => [ATARI.as_slice(), &MACHADO].concat(),
        }
    }
}

impl Objective {
    /// The keys whose defaults are others with it, each with its value as TOML.
    pub(super) fn implies(self) -> &'static [(&'static str, &'static str)] {
        const EPOCHS: (&str, &str) = ("algorithm.epochs", "1");
        const MINIBATCHES: (&str, &str) = ("algorithm.minibatches", "1");
        match self {
            Self::WeightedPg => &[EPOCHS, MINIBATCHES],
            Self::A2c => &[EPOCHS, MINIBATCHES, ("algorithm.critic", "\"gae\"")],
            // Its auxiliary phases make up for further passes (Cobbe et al. 2020, table 1).
            Self::Ppg => &[EPOCHS],
            Self::Clip | Self::KlPenalty | Self::Mdpo | Self::TrustRegion => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{tests::File, *};

    fn load(
        file: Option<&File>,
        env: &[(&str, &str)],
        sets: &[&str],
    ) -> Result<Loaded, ConfigError> {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
        Config::load(file.map(|file| file.0.as_path()), env, &sets)
    }

    #[test]
    fn an_objective_is_one_key_and_what_it_implies_can_be_changed() {
        for objective in [
            "clip",
            "kl_penalty",
            "mdpo",
            "trust_region",
            "weighted_pg",
            "a2c",
            "ppg",
        ] {
            let set = format!("algorithm.objective={objective}");
            let loaded = load(None, &[], &[&set]).unwrap();
            let single = ["weighted_pg", "a2c", "ppg"].contains(&objective);
            assert_eq!(loaded.config.algorithm.epochs == 1, single, "{objective}");
        }
        let sets = ["algorithm.objective=a2c", "algorithm.critic=n_step"];
        let loaded = load(None, &[], &sets).unwrap();
        assert_eq!(loaded.config.algorithm.critic.as_str(), "n_step");
        let source = loaded.provenance.iter();
        let source = source.clone().find(|(path, ..)| path == "algorithm.epochs");
        assert_eq!(source.unwrap().2, "objective a2c");
        let sets = ["algorithm.objective=a2c", "algorithm.epochs=4"];
        assert!(load(None, &[], &sets).is_err());
    }

    #[test]
    fn a_preset_lies_between_defaults_and_everything_explicit() {
        let file = File::new(
            "preset",
            "[environment]\npreset = \"none\"\n[environment.options]\nsticky = 0.1\n",
        );
        // Chosen by the highest layer, overridden by the lowest explicit one.
        let loaded = load(Some(&file), &[], &["environment.preset=atari.dqn"]).unwrap();
        let options = &loaded.config.environment.options;
        assert_eq!(options["sticky"].as_float(), Some(0.1));
        assert_eq!(options["life_loss"].as_bool(), Some(true));
        assert_eq!(loaded.config.algorithm.reward_clip, Some(1.0));
        let source = |path: &str| {
            let found = loaded.provenance.iter().find(|(key, ..)| key == path);
            found.unwrap().2.clone()
        };
        assert_eq!(source("algorithm.reward_clip"), "preset atari.dqn");
        assert_eq!(source("environment.options.noop_max"), "preset atari.dqn");
        assert_eq!(source("environment.preset"), "--set");

        // What is printed in full gives the same again.
        let printed = File::new("preset-printed", &loaded.config.to_toml());
        let again = load(Some(&printed), &[], &[]).unwrap();
        assert_eq!(again.config, loaded.config);
    }

    #[test]
    fn the_protocols_differ_where_the_papers_do() {
        let options = |preset: &str| {
            let set = format!("environment.preset={preset}");
            load(None, &[], &[&set]).unwrap().config.environment.options
        };
        let (dqn, machado) = (options("atari.dqn"), options("atari.machado"));
        let different: Vec<&String> = dqn
            .keys()
            .filter(|key| dqn[*key] != machado[*key])
            .collect();
        assert_eq!(
            different,
            [
                "fire_reset",
                "full_actions",
                "life_loss",
                "noop_max",
                "sticky"
            ]
        );
        assert!(
            load(None, &[], &[])
                .unwrap()
                .config
                .environment
                .options
                .is_empty()
        );
        let error = load(None, &[], &["environment.preset=atari"]).unwrap_err();
        assert_eq!(
            error.faults(),
            [
                "`environment.preset` is \"atari\" (--set), but must be \"none\" or \"atari.dqn\" or \"atari.machado\"; \
              its default is \"none\""
            ]
        );
    }

    #[test]
    fn a_section_within_a_section_is_set_by_every_layer() {
        let file = File::new(
            "nested",
            "[environment.python]\ninterpreter = \"a\"\nrestarts_max = 3\nstep_deadline_s_max = 7\n",
        );
        let env = [("SPRINGBOK__ENVIRONMENT__PYTHON__INTERPRETER", "b")];
        let loaded = load(Some(&file), &env, &["environment.python.restarts_max=4"]).unwrap();
        let python = &loaded.config.environment.python;
        assert_eq!((python.interpreter.as_str(), python.restarts_max), ("b", 4));
        assert_eq!(python.step_deadline_s_max, 7);

        let fault = |file, sets: &[&str]| {
            let error = load(file, &[], sets).unwrap_err();
            error.faults().join("; ")
        };
        let misspelt = File::new("misspelt", "[environment.python]\ninterpeter = \"a\"");
        assert!(
            fault(Some(&misspelt), &[]).contains("did you mean `environment.python.interpreter`?")
        );
        let flat = File::new("flat", "[environment]\npython = \"a\"");
        assert!(fault(Some(&flat), &[]).contains("but it is a section"));
        assert!(fault(None, &["environment.python=a"]).contains("is a section"));
        assert!(
            fault(None, &["environment.python.step_deadline_s_max=0"])
                .contains("must lie between 1 and 86400")
        );
    }
}
